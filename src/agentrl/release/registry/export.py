"""A bundle's policy as an ordinary Hugging Face directory, or its adapter alone, with a model card."""

from __future__ import annotations

import shutil
from pathlib import Path

from agentrl.disk import sync, write_text
from agentrl.errors import ConfigError, ReleaseError
from agentrl.json_files import read_json_file
from agentrl.release.place import ReleasePlace
from agentrl.release.registry.blobs import BlobStore
from agentrl.release.registry.bundle import Bundle, read_bundle
from agentrl.release.registry.formats import check_format
from agentrl.release.registry.listing import read_listing
from agentrl.release.registry.model_card import model_card
from agentrl.strict_json import canonical_json

ADAPTER = "adapter"
CARD, MANIFEST, FILES = "README.md", "agentrl-bundle.json", "agentrl-files.json"
"""The card; the manifest, whose digest is the bundle's id; the listing of the policy's files, whose digest it names."""


def export_bundle(place: ReleasePlace, id_or_prefix: str, folder: Path, *, is_adapter: bool = False) -> Bundle:
    """Write the policy, verified, with its card and its manifest; the folder is there whole or not at all.

    Args:
        folder: one that is not there yet, or is empty.
        is_adapter: of a policy trained with LoRA, the adapter alone, in PEFT's format.

    Raises:
        ConfigError: there is no such bundle, the folder is in use, or the policy has no adapter.
        ReleaseError: a file of the policy is missing, changed or of a kind that may run code.
    """
    bundle, blobs = read_bundle(place, id_or_prefix), BlobStore(place)
    policy = bundle.part("policy")
    if policy is None:
        raise ReleaseError(f"bundle {bundle.id[:19]}: its manifest has no policy")
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise ConfigError(f"{folder}: is there already; give a folder that is not, or an empty one")
    listed = read_listing(blobs, policy.sha256)
    inner = f"{ADAPTER}/"
    if is_adapter and not any(name.startswith(inner) for name in listed):
        raise ConfigError(
            f"bundle {bundle.id[:19]}: its policy has no adapter; it was trained whole: leave --adapter out"
        )
    chosen = {
        name.removeprefix(inner) if is_adapter else name: sha256
        for name, (sha256, _) in listed.items()
        if name.startswith(inner) == is_adapter
    }
    if is_adapter:  # a policy's chat template and tokenizer are what its adapter speaks with
        chosen |= {
            name: sha256 for name, (sha256, _) in listed.items() if name.startswith(("tokenizer", "chat_template"))
        }
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        for name, sha256 in chosen.items():
            if name == CARD:
                continue  # PEFT's own, or the baseline's: this one is about the policy
            target = draft / name
            target.parent.mkdir(parents=True, exist_ok=True)
            blobs.copy_out(sha256, target)
            check_format(target, name)
        _point_to_baseline(draft, bundle, is_adapter)
        write_text(draft / CARD, model_card(bundle, is_adapter=is_adapter))
        (draft / MANIFEST).write_bytes(canonical_json(bundle.manifest))
        (draft / FILES).write_bytes(blobs.read(policy.sha256))
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
        sync(folder.parent)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise ReleaseError(f"{folder}: cannot be written ({error.strerror or error})") from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return bundle


def _point_to_baseline(draft: Path, bundle: Bundle, is_adapter: bool) -> None:
    """An adapter names the folder of this machine that it was trained on, which means nothing elsewhere."""
    config = draft / "adapter_config.json"
    baseline = bundle.part("baseline")
    if is_adapter and config.is_file() and baseline is not None:
        found = read_json_file(config)
        found["base_model_name_or_path"] = f"bundle {bundle.id[:19]} baseline {baseline.sha256[:12]}"
        write_text(config, canonical_json(found).decode("utf-8") + "\n")
