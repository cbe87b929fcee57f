"""A bundle is its parts, by digest: made the same twice, found by its first digits, verified whenever it is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from agentrl.config import RunConfig
from agentrl.errors import ConfigError, ReleaseError
from agentrl.evaluation.suites import read_suite
from agentrl.release.place import ReleasePlace
from agentrl.release.registry import (
    Bundle,
    archive_suite,
    completeness_gaps,
    create_bundle,
    diff_bundles,
    export_bundle,
    fetch_suite,
    keep_bundle,
    list_bundles,
    read_bundle,
    verify_bundle,
)
from agentrl.release.registry.blobs import BlobError, BlobStore
from agentrl.release.registry.formats import FormatError, check_format
from agentrl.release.registry.listing import checked_name, read_listing, unpack
from agentrl.release.registry.manifest import bundle_id
from agentrl.release.registry.model_card import CHECK
from agentrl.release.store import open_store
from agentrl.release.store.tables import blobs, bundles
from agentrl.strict_json import canonical_json
from tests.release.registry.making import make_config, make_suite, weights, write_policy


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return make_config(tmp_path)


@pytest.fixture
def bundle(place: ReleasePlace, config: RunConfig, tmp_path: Path) -> Bundle:
    return create_bundle(place, config, str(write_policy(tmp_path / "policy", 1)), suites=[make_suite(tmp_path)])


def blob_of(place: ReleasePlace, bundle: Bundle, key: str, name: str) -> Path:
    part = bundle.part(key)
    assert part is not None
    store = BlobStore(place)
    return store.path(read_listing(store, part.sha256)[name][0])


def break_blob(path: Path, change: Callable[[bytes], bytes]) -> None:
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(change(content))


def test_a_bundle_holds_every_part_of_a_policys_making(bundle: Bundle) -> None:
    found = {place.partition("[")[0]: part.name for place, part in bundle.parts}
    assert found.keys() == {
        *("policy", "baseline", "reward_model", "trainer_config", "graders", "datasets", "prompts", "tool_specs"),
        "eval_suites",
    }
    assert bundle.manifest["seeds"] == {"seed": 17}
    assert bundle.manifest["code_version"]["agentrl"]
    assert [part.facts["tasks"] for part in bundle.many("datasets")] == [4, 2]
    for _, part in bundle.parts:
        assert set(part.to_record()) >= {"name", "version", "sha256", "size", "uri"}
    assert bundle.id == bundle_id(bundle.manifest)


def test_the_same_parts_are_the_same_bundle(
    place: ReleasePlace, config: RunConfig, bundle: Bundle, tmp_path: Path
) -> None:
    again = create_bundle(place, config, str(tmp_path / "policy"), suites=[tmp_path / "injection.json"])
    assert again.id == bundle.id
    assert len(list_bundles(place)) == 1
    other = create_bundle(place, config, str(write_policy(tmp_path / "other" / "policy", 2)), parent=bundle.id[:15])
    assert other.id != bundle.id
    assert other.parent == bundle.id
    assert {each.id for each in list_bundles(place)} == {bundle.id, other.id}


def test_a_bundle_is_found_by_the_first_digits_of_its_id(place: ReleasePlace, bundle: Bundle) -> None:
    for given in (bundle.id, bundle.id[:11], bundle.id[7:], bundle.id[7:12].upper()):
        assert read_bundle(place, given).id == bundle.id
    with pytest.raises(ConfigError, match="none of that id"):
        read_bundle(place, "0000" if not bundle.id.startswith("sha256:0000") else "1111")
    for wrong in ("", "abc", "sha256:", "xyz1", "%%%%", "____"):
        with pytest.raises(ConfigError, match="at least its first 4"):
            read_bundle(place, wrong)


def test_digits_that_several_bundles_begin_with_are_refused(place: ReleasePlace, bundle: Bundle) -> None:
    row = {"id": bundle.id[:11] + "0" * 60, "name": "", "created_at": 0.0, "manifest": {}}
    with place.store.write() as connection:
        connection.execute(insert(bundles).values(row))
    with pytest.raises(ConfigError, match=r"2 bundles begin so .*give more digits"):
        read_bundle(place, bundle.id[:11])
    assert read_bundle(place, bundle.id).id == bundle.id


def test_verify_reads_all_of_it(place: ReleasePlace, bundle: Bundle) -> None:
    found = verify_bundle(place, bundle.id)
    assert found.problems == ()
    assert found.parts == len(bundle.parts)
    assert completeness_gaps(place, bundle.id) == []


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "one-bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_t11_a_file_that_was_tampered_with_is_named_and_given_to_nobody(
    place: ReleasePlace, bundle: Bundle, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    break_blob(blob_of(place, bundle, "policy", "model.safetensors"), change)
    (problem,) = verify_bundle(place, bundle.id).problems
    assert problem.startswith("policy (policy): model.safetensors: ")
    assert "not what its name says" in problem
    assert completeness_gaps(place, bundle.id) == [f"bundle {bundle.id[:19]}: {problem}"]
    with pytest.raises(BlobError, match="not what its name says"):
        export_bundle(place, bundle.id, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_file_that_is_missing_is_named(place: ReleasePlace, bundle: Bundle) -> None:
    path = blob_of(place, bundle, "policy", "model.safetensors")
    path.unlink()
    found = verify_bundle(place, bundle.id).problems
    if place.store.is_sqlite:
        missing = f"blob {path.name} is missing: neither in {place.blobs} nor in the store"
        assert found == (f"policy (policy): model.safetensors: {missing}",)
    else:  # small enough to be in the shared database, from where it is brought back
        assert found == ()
        assert path.read_bytes() == weights(1)


def test_t10_a_link_in_the_place_of_a_blob_is_refused(place: ReleasePlace, bundle: Bundle, tmp_path: Path) -> None:
    path = blob_of(place, bundle, "policy", "model.safetensors")
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    (problem,) = verify_bundle(place, bundle.id).problems
    assert "is a symbolic link" in problem


@pytest.mark.parametrize(
    "name", ["../up", "/etc/passwd", "a/../../b", "a\\b", "c:x", "", ".", "a//b", "./a", "a\0b", "a\nb"]
)
def test_t10_a_listing_with_a_path_that_leaves_the_folder_is_refused(
    place: ReleasePlace, tmp_path: Path, name: str
) -> None:
    store = BlobStore(place)
    content = store.put_bytes(b"content")
    listing = store.put_bytes(
        canonical_json({"format": "agentrl-files/1", "files": {name: {"sha256": content, "size": 7}}})
    )
    target = tmp_path / "inside" / "folder"
    target.mkdir(parents=True)
    with pytest.raises(BlobError, match="found the file name"):
        unpack(store, listing, target)
    with pytest.raises(BlobError, match="found the file name"):
        checked_name(name)
    assert (
        sorted(
            path.name
            for path in tmp_path.rglob("*")
            if path.is_file() and "blobs" not in path.parts and path.suffix not in (".db", ".db-wal", ".db-shm")
        )
        == []
    )


@pytest.mark.parametrize("digest", ["../../etc/passwd", "abc", "A" * 64, "0" * 63 + "/"])
def test_t10_what_is_no_digest_names_no_file(place: ReleasePlace, digest: str) -> None:
    with pytest.raises(BlobError, match="for a digest"):
        BlobStore(place).read(digest)


def test_t10_links_in_a_folder_of_weights_are_refused(place: ReleasePlace, config: RunConfig, tmp_path: Path) -> None:
    policy = write_policy(tmp_path / "policy", 1)
    (tmp_path / "secret.json").write_text("{}")
    (policy / "extra.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(BlobError, match=r"extra\.json: is a symbolic link"):
        create_bundle(place, config, str(policy))
    assert list_bundles(place) == []


UNSAFE: dict[str, tuple[str, bytes, str]] = {
    "torch": ("pytorch_model.bin", b"PK\x03\x04", "found .bin; allowed: .safetensors"),
    "pickle": ("state.pkl", b"\x80\x04", "found .pkl"),
    "code": ("modeling.py", b"import os", "found .py"),
    "no-suffix": ("weights", b"x", "without a suffix"),
    "pickle-as-safetensors": ("model.safetensors", b"\x80\x04\x95" + b"x" * 100, "is no safetensors file"),
    "cut-safetensors": ("model.safetensors", weights()[:-1], "its header tells of"),
    "longer-safetensors": ("model.safetensors", weights() + b"\x80", "its header tells of"),
    "tiny-safetensors": ("model.safetensors", b"abc", "is no safetensors file"),
    "remote-code": ("config.json", b'{"auto_map": {"AutoModel": "x.Y"}}', "found auto_map, which loads Python code"),
    "no-json": ("config.json", b"\x80\x04", "is no JSON"),
}


@pytest.mark.parametrize(("name", "content", "message"), UNSAFE.values(), ids=UNSAFE)
def test_t11_what_may_run_code_has_no_place_among_weights(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        check_format(path, name)


def test_t11_a_policy_with_a_pickle_makes_no_bundle(place: ReleasePlace, config: RunConfig, tmp_path: Path) -> None:
    policy = write_policy(tmp_path / "policy", 1)
    (policy / "optimizer.pt").write_bytes(b"\x80\x04")
    with pytest.raises(FormatError, match=r"optimizer\.pt: found \.pt; allowed"):
        create_bundle(place, config, str(policy))
    assert list_bundles(place) == []


def test_t11_a_manifest_that_somebody_else_wrote_brings_no_code_in(
    place: ReleasePlace, bundle: Bundle, tmp_path: Path
) -> None:
    """Right digests prove that nothing changed since, not that it may be loaded."""
    store = BlobStore(place)
    listing = store.put_bytes(
        canonical_json(
            {
                "format": "agentrl-files/1",
                "files": {"modeling.py": {"sha256": store.put_bytes(b"import os"), "size": 9}},
            }
        )
    )
    policy = {**bundle.manifest["policy"], "sha256": listing, "size": 9, "uri": f"blob:sha256:{listing}"}
    made = keep_bundle(place, {**bundle.manifest, "policy": policy})
    (problem,) = verify_bundle(place, made.id).problems
    assert "modeling.py: found .py" in problem
    with pytest.raises(FormatError):
        export_bundle(place, made.id, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_was_changed_in_the_store_is_refused(place: ReleasePlace, bundle: Bundle) -> None:
    changed = {**bundle.manifest, "seeds": {"seed": 18}}
    with place.store.write() as connection:
        connection.execute(update(bundles).where(bundles.c.id == bundle.id).values(manifest=changed))
    with pytest.raises(ReleaseError, match=r"the manifest of bundle .* is now that of"):
        read_bundle(place, bundle.id)


def test_a_part_that_points_elsewhere_is_refused(place: ReleasePlace, bundle: Bundle) -> None:
    policy = {**bundle.manifest["policy"], "uri": "file:///etc/passwd"}
    with pytest.raises(ReleaseError, match="is at 'file:///etc/passwd'; allowed: blob:sha256:"):
        keep_bundle(place, {**bundle.manifest, "policy": policy})


def test_an_exported_policy_is_an_ordinary_folder_that_proves_what_it_is(
    place: ReleasePlace, bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export_bundle(place, bundle.id, out)
    assert (out / "model.safetensors").read_bytes() == weights(1)
    assert json.loads((out / "config.json").read_text())["model_type"] == "qwen3"
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert bundle.id in card
    assert "Nothing was measured" in card
    assert CHECK in card
    done = subprocess.run([sys.executable, "-c", CHECK], cwd=out, capture_output=True, text=True, check=True)
    assert done.stdout == f"bundle {bundle.id}\nall as it was\n"
    (out / "config.json").write_text("{}")
    assert subprocess.run([sys.executable, "-c", CHECK], cwd=out, capture_output=True, check=False).returncode == 1


def test_export_overwrites_nothing(place: ReleasePlace, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        export_bundle(place, bundle.id, tmp_path / "out")
    with pytest.raises(ConfigError, match="has no adapter"):
        export_bundle(place, bundle.id, tmp_path / "new", is_adapter=True)
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def test_an_adapter_is_exported_alone_and_names_no_folder_of_this_machine(
    place: ReleasePlace, config: RunConfig, tmp_path: Path
) -> None:
    policy = write_policy(tmp_path / "policy", 1)
    (policy / "tokenizer.json").write_text("{}")
    adapter = policy / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(weights(2))
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/home/ada/baseline"}))
    made = create_bundle(place, config, str(policy))
    export_bundle(place, made.id, tmp_path / "adapter", is_adapter=True)
    export_bundle(place, made.id, tmp_path / "merged")
    found = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert found >= {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"}
    assert "model.safetensors" not in found
    assert (
        "ada" not in json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    )
    assert "library_name: peft" in (tmp_path / "adapter" / "README.md").read_text()
    assert not (tmp_path / "merged" / "adapter").exists()


def test_two_bundles_are_compared_part_by_part(
    place: ReleasePlace, config: RunConfig, bundle: Bundle, tmp_path: Path
) -> None:
    other = config.model_copy(update={"seed": 18})
    policy = write_policy(tmp_path / "second" / "policy", 2)
    made = create_bundle(place, other, str(policy), parent=bundle.id)
    found = {each.part: each for each in diff_bundles(place, bundle.id, made.id)}
    assert (found["policy"].state, found["baseline"].state) == ("changed", "same")
    assert found["policy"].details == ("config.json: seed: 1 -> 2", "model.safetensors: changed")
    assert found["trainer_config"].details == ("seed: 17 -> 18",)
    assert found["eval_suites/injection"].state == "removed"
    assert found["seeds"].details == ("seeds.seed: 17 -> 18",)
    assert found["parent"].state == "changed"
    assert {each.state for each in diff_bundles(place, made.id, made.id)} == {"same"}


def test_t9_what_was_found_in_data_and_prompts_is_counted_and_not_repeated(place: ReleasePlace, tmp_path: Path) -> None:
    config = make_config(tmp_path, text="I am jane@example.com, my key is sk-abcdefghijklmnop1234")
    made = create_bundle(place, config, str(write_policy(tmp_path / "policy", 1)), licences={"data": "cc-by-4.0"})
    scan = made.manifest["scan"]
    assert scan["found"] == {
        "datasets/train": {"email": 4, "secret": 4},
        "datasets/validation": {"email": 2, "secret": 2},
    }
    assert scan["licences"] == {"baseline": "apache-2.0", "policy": "not stated", "data": "cc-by-4.0"}
    assert "jane" not in json.dumps(made.manifest)
    export_bundle(place, made.id, tmp_path / "out")
    assert "datasets/train: 4 x email, 4 x secret" in (tmp_path / "out" / "README.md").read_text()


def test_t8_headers_of_tools_and_graders_are_no_part_of_a_bundle(place: ReleasePlace, tmp_path: Path) -> None:
    headers = {"X-Team": "planted-value-1", "Authorization": "Bearer ${REFUND_TOKEN}"}
    tool = {"name": "refund", "server_url": "http://127.0.0.1:9/refund?api_key=planted-value-2", "headers": headers}
    config = make_config(tmp_path, tools={"endpoints": [tool]})
    made = create_bundle(place, config, str(write_policy(tmp_path / "policy", 1)))
    (spec,) = made.many("tool_specs")
    kept = BlobStore(place).read(spec.sha256)
    assert b"planted" not in kept
    assert json.loads(kept)["kind"] == "endpoints"


def test_a_bundle_without_a_scan_or_a_part_that_matters_is_incomplete(place: ReleasePlace, bundle: Bundle) -> None:
    without = {key: value for key, value in bundle.manifest.items() if key not in ("scan", "trainer_config")}
    made = keep_bundle(place, without)
    assert completeness_gaps(place, made.id) == [
        f"bundle {made.id[:19]}: its manifest has no trainer_config",
        f"bundle {made.id[:19]}: nobody looked for licences and personal data in it; create it anew",
    ]
    assert completeness_gaps(place, "sha256:00000000")[0].startswith("bundle sha256:00000000: none of that id")


def test_the_tool_policy_of_a_bundle_says_which_tools_need_a_person(place: ReleasePlace, tmp_path: Path) -> None:
    tools = {
        "endpoints": [{"name": "refund", "server_url": "http://127.0.0.1:9/refund"}],
        "policy": {"rules": [{"tool": "refund", "decision": "needs_approval"}]},
    }
    made = create_bundle(place, make_config(tmp_path, tools=tools), str(write_policy(tmp_path / "policy", 1)))
    assert made.manifest["tool_policy"]["rules"] == [{"tool": "refund", "decision": "needs_approval"}]
    assert completeness_gaps(place, made.id) == []


def test_the_suite_of_a_decision_is_fetched_and_verified_later(place: ReleasePlace, tmp_path: Path) -> None:
    suite = archive_suite(place, make_suite(tmp_path))
    (tmp_path / "injection.json").unlink()
    (tmp_path / "injection.items.jsonl").unlink()
    path = fetch_suite(place, suite.digest, tmp_path / "fetched")
    assert read_suite(path).tasks == suite.tasks
    with pytest.raises(ConfigError, match="is there already"):
        fetch_suite(place, suite.digest, tmp_path / "fetched")
    with pytest.raises(ConfigError, match="none of that digest"):
        fetch_suite(place, "0" * 64, tmp_path / "other")


def test_another_machine_fetches_the_suite_from_the_shared_database(
    place: ReleasePlace, store_url: str, tmp_path: Path
) -> None:
    suite = archive_suite(place, make_suite(tmp_path))
    other = ReleasePlace("support", tmp_path / "another-machine", open_store(store_url))
    try:
        if place.store.is_sqlite:  # a file of one machine: its folder is where the suite is
            with pytest.raises(BlobError, match="is missing: neither in"):
                fetch_suite(other, suite.digest, tmp_path / "fetched")
        else:
            assert read_suite(fetch_suite(other, suite.digest, tmp_path / "fetched")).tasks == suite.tasks
    finally:
        other.store.close()


def test_t11_a_blob_that_was_changed_in_the_database_is_refused(place: ReleasePlace) -> None:
    store = BlobStore(place)
    sha256 = store.put_bytes(b"as it was")
    store.path(sha256).unlink()
    with place.store.write() as connection:
        connection.execute(update(blobs).where(blobs.c.sha256 == sha256).values(content=b"as it is"))
    with pytest.raises(BlobError, match="not what its name says"):
        store.read(sha256)
    assert not store.path(sha256).exists()


def test_writers_of_one_blob_at_once_leave_one_whole_file(place: ReleasePlace) -> None:
    store, content = BlobStore(place), os.urandom(300_000)
    with ThreadPoolExecutor(4) as pool:
        (sha256,) = set(pool.map(lambda _: store.put_bytes(content), range(12)))
    assert store.read(sha256) == content
    assert [path.name for path in place.blobs.rglob("*") if path.is_file()] == [sha256]


def test_a_damaged_blob_is_put_right_by_whoever_brings_the_file_again(place: ReleasePlace, tmp_path: Path) -> None:
    store = BlobStore(place)
    (tmp_path / "file").write_bytes(b"content")
    sha256, size = store.put_file(tmp_path / "file")
    assert size == 7
    break_blob(store.path(sha256), lambda _: b"damaged")
    store.put_file(tmp_path / "file")
    assert store.read(sha256) == b"content"


def test_a_linked_blob_takes_no_room_and_is_told_when_its_file_changes(place: ReleasePlace, tmp_path: Path) -> None:
    store, path = BlobStore(place), tmp_path / "model.safetensors"
    path.write_bytes(weights())
    sha256, _ = store.put_file(path, is_linked=True)
    assert os.path.samefile(store.path(sha256), path)
    path.write_bytes(weights(1))
    with pytest.raises(BlobError, match="not what its name says"):
        store.read(sha256)


def test_a_disk_that_is_full_leaves_no_half_of_a_blob(place: ReleasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        BlobStore(place).put_bytes(b"content")
    assert [path for path in place.blobs.rglob("*") if path.is_file()] == []


def test_a_run_whose_data_have_changed_since_makes_no_bundle(
    place: ReleasePlace, config: RunConfig, tmp_path: Path
) -> None:
    import yaml

    from agentrl.release.registry.gather import find_origin, load_splits

    run = tmp_path / "run"
    write_policy(run / "checkpoints" / "policy-000003", 3)
    (run / "checkpoints" / "best").symlink_to("policy-000003")
    (run / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (run / "manifest.json").write_text(json.dumps({"versions": {"dataset": "sha256:other (4 train)"}}))
    with pytest.raises(ConfigError, match="bring the data back"):
        create_bundle(place, config, f"{run}@best")
    origin = find_origin(config, f"{run}@best")
    splits = load_splits(replace(origin, recorded={}))
    assert splits is not None
    (run / "manifest.json").write_text(json.dumps({"versions": {"dataset": f"{splits.digest()} ({splits})"}}))
    made = create_bundle(place, config, f"{run}@best")
    policy = made.part("policy")
    assert policy is not None
    assert (policy.version, made.name) == ("step 3", "support run@best")


def test_a_blob_may_have_more_bytes_than_32_bits_count(place: ReleasePlace) -> None:
    store = BlobStore(place)
    store._share("0" * 64, 5_000_000_000, is_shared=True)
    with place.store.read() as connection:
        assert connection.execute(select(blobs.c.size)).scalar_one() == 5_000_000_000
