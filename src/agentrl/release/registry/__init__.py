"""What is released: content-addressed bundles, and the files that they and decisions name, by digest.

    bundle.py        make, find, list: id = digest of the manifest
    manifest.py      what a bundle says: parts, each with name, version, sha256, size, uri
    gather.py        which parts a config and a run have
    scan.py          licences, secrets and personal data in what it was made from
    verify.py        is all of it there, byte by byte; what keeps a release from starting
    differences.py   two bundles, part by part
    export.py        an ordinary Hugging Face directory, with a model card
    suites.py        the exact suite of a decision, a year later
    blobs.py         files by digest, in a folder and, small ones, in the database
    listing.py       folders as one blob
    formats.py       what a folder of weights may hold: safetensors, JSON and text

Read `manifest.py` first. May import: floors 0-5, and of release/ the store and the place.
"""

from agentrl.release.registry.bundle import Bundle, create_bundle, keep_bundle, list_bundles, read_bundle
from agentrl.release.registry.differences import diff_bundles
from agentrl.release.registry.export import export_bundle
from agentrl.release.registry.suites import archive_suite, fetch_suite
from agentrl.release.registry.verify import completeness_gaps, verify_bundle

__all__ = [
    "Bundle",
    "archive_suite",
    "completeness_gaps",
    "create_bundle",
    "diff_bundles",
    "export_bundle",
    "fetch_suite",
    "keep_bundle",
    "list_bundles",
    "read_bundle",
    "verify_bundle",
]
