"""Handmade entries of a store: real files and digests, small and without a build."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuronc.cache.entry import ENTRY_FILE, FILES, Entry, entry_text, place_of
from neuronc.cache.entry_files import digest_of
from neuronc.cache.key import Key, Kind
from neuronc.cache.local_store import LocalStore
from neuronc.lower.jobs import ProgramJob
from neuronc.trace.program_spec import ProgramSpec

FACTS = {"created_at": "2026-01-02T03:04:05+00:00", "wall_s": 1.5, "what": "decode_64, tp 1"}
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}


def make_key(number: int = 0, kind: Kind = "executable", **inputs: Any) -> Key:
    """A key of its own for every ``number``."""
    return Key(kind=kind, inputs={"number": number, "tp": 1, "target": "cpu", **inputs})


def make_files(folder: Path, kind: Kind = "executable", *, text: str = "content") -> list[str]:
    """The files of an entry of ``kind`` in ``folder``; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES[kind]:
        (folder / name).write_text(f"{text} of {name}", encoding="utf-8")
    return sorted(FILES[kind])


def keep(
    store: LocalStore, folder: Path, number: int = 0, kind: Kind = "executable", **inputs: Any
) -> Entry:
    """An entry in ``store``, its files made in ``folder``."""
    names = make_files(folder, kind, text=f"content {number}")
    entry = store.put(make_key(number, kind, **inputs), folder, names, FACTS)
    assert entry is not None
    return entry


def edit_entry(store: LocalStore, key: Key, change: Callable[[dict[str, Any]], object]) -> Path:
    """``entry.json`` of ``key`` after ``change``; its path."""
    path = store.root / place_of(key) / ENTRY_FILE
    told = json.loads(path.read_text(encoding="utf-8"))
    change(told)
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


def write_raw(store: LocalStore, folder: Path, entry: Entry) -> Path:
    """``entry`` in ``store`` as somebody else would write it: nothing is checked; its folder."""
    place = store.root / entry.place
    place.mkdir(parents=True)
    for file in entry.files:
        (place / file.path).write_bytes((folder / file.path).read_bytes())
    (place / ENTRY_FILE).write_text(entry_text(entry), encoding="utf-8")
    return place


def entry_of(key: Key, folder: Path, names: list[str]) -> Entry:
    """An entry of the files in ``folder``."""
    return Entry(key=key, files=tuple(digest_of(folder / name) for name in names), facts=FACTS)


def make_job(**fields: Any) -> dict[str, Any]:
    """A ``ProgramJob`` as JSON; ``spec`` and ``config`` take single fields."""
    spec: dict[str, Any] = {"phase": "decode", "bucket": 64, "batch_size": 2, "max_length": 64}
    spec |= fields.pop("spec", {})
    known: dict[str, Any] = {
        "name": "decode_64",
        "tp": 2,
        "spec": ProgramSpec(**spec),
        "config": {**CONFIG, **fields.pop("config", {})},
        "source": "model",
        "shapes": {"model.embed_tokens.weight": (128, 32)},
        "dtype": "f32",
    }
    return asdict(ProgramJob(**{**known, **fields}))


def make_hlo(*, first_id: int = 0, prefix: str = "add") -> Any:
    """An ``HloModuleProto``: a sum over ranks of a parameter; ids and names are as told."""
    from neuronc.targets.neuron.hlo.schema import LEGACY

    module = LEGACY(name=f"jit_{prefix}", id=first_id, entry_computation_name=f"{prefix}.main")
    reducer = module.computations.add(name=f"{prefix}.region", id=first_id + 1)
    main = module.computations.add(name=f"{prefix}.main", id=first_id + 2)
    ids = {name: first_id + 10 + 3 * place for place, name in enumerate("abc")}
    for name in "ab":
        reducer.instructions.add(name=f"{prefix}.{name}", opcode="parameter", id=ids[name])
    operands = [ids["a"], ids["b"]]
    reducer.instructions.add(name=prefix, opcode="add", id=ids["c"], operand_ids=operands)
    reducer.root_id = ids["c"]
    weight, total = first_id + 50, first_id + 70
    main.instructions.add(name=f"{prefix}.p", opcode="parameter", id=weight)
    called = main.instructions.add(name=f"{prefix}.s", opcode="all-reduce", id=total)
    called.operand_ids.append(weight)
    called.called_computation_ids.append(reducer.id)
    called.metadata.op_name = f"{prefix}/sum"
    called.replica_groups.add(replica_ids=[0, 1])
    called.frontend_attributes.map["names"] = "logits"
    main.root_id, module.entry_computation_id = total, main.id
    return module
