"""Reading the sharded weights of NxD Inference: the ranks' shards put together again.

``weights/tp{rank}_sharded_checkpoint.safetensors`` holds rank ``rank``'s part of every parameter
(NxD Inference writes it with ``save_sharded_checkpoint``; ``models/application_base.py``). The
files do not tell how they were cut. Beside those that neuronc wrote lies ``split.json``, which
does; of others only a cut that ``config.json`` decides alone is read.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.folder import find_companions, read_config
from neuronc.checkpoint.paths import contained_file, path_below, read_json_object, reading
from neuronc.checkpoint.safetensors_reader import (
    SafetensorsReader,
    StoredTensor,
    read_safetensors_header,
)
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.errors import InputError, PlanError
from neuronc.families.model_config import read_model_config
from neuronc.parallel.layouts.digested_reader import DigestedReader
from neuronc.parallel.layouts.names import NXDI_WEIGHTS, rank_path
from neuronc.parallel.layouts.nxdi_config import NEURON_CONFIG
from neuronc.parallel.plan import joined_shapes, plan_parallelism
from neuronc.parallel.rank_files import whole_reader
from neuronc.parallel.rules import ParamRule
from neuronc.parallel.split_manifest import SPLIT_FILE, read_layout, read_split_manifest

Header = Mapping[str, StoredTensor]

_RANK_FILE = re.compile(r"tp(0|[1-9][0-9]{0,5})_sharded_checkpoint\.safetensors")
_AGAIN = "copy the whole folder again, or pass the checkpoint that it was made of"
_ORIGINAL = "pass the checkpoint that it was made of"


def is_nxdi_folder(folder: Path) -> bool:
    """Whether ``folder`` has rank files as NxD Inference names them."""
    return bool(_find_ranks(folder))


def open_nxdi(folder: Path, *, source: str) -> Checkpoint:
    """Open such a folder, which ``source`` led to, as a checkpoint of whole tensors.

    Headers are read, no values. `read` has one tensor and one shard of it in memory.

    Raises:
        InputError: A rank's file is missing or damaged, the ranks do not fit together, or
            ``split.json`` is missing and config.json alone does not decide how they were cut.
    """
    config = read_config(folder)
    headers = _read_headers(folder)
    rules, digests = _find_rules(folder, config, headers, source)
    _check_headers(folder, headers, rules)
    ranks = tuple(SafetensorsReader(folder=folder, stored=header) for header in headers)
    reader = whole_reader(folder, rules, ranks)
    infos = {
        name: TensorInfo(name=name, shape=rule.shape, dtype=headers[0][name].info.dtype)
        for name, rule in rules.items()
    }
    return Checkpoint(
        source=source,
        path=folder,
        config=config,
        tensors=infos,
        companions=find_companions(folder),
        reader=DigestedReader(folder=folder, reader=reader, digests=digests),
    )


def _weights_of(folder: Path) -> Path:
    """Where the rank files are; optimum-neuron keeps them one folder deeper."""
    deeper = folder / "checkpoint" / NXDI_WEIGHTS
    return deeper if deeper.is_dir() else folder / NXDI_WEIGHTS


def _find_ranks(folder: Path) -> set[int]:
    weights = _weights_of(folder)
    if not weights.is_dir():
        return set()
    with reading(weights):
        matches = [_RANK_FILE.fullmatch(path.name) for path in weights.iterdir()]
    return {int(match[1]) for match in matches if match}


def _read_headers(folder: Path) -> list[Header]:
    weights = contained_file(_weights_of(folder).parent, NXDI_WEIGHTS)
    path_below(folder, weights.relative_to(folder).as_posix())
    ranks = _find_ranks(folder)
    for rank in range(len(ranks)):
        if rank not in ranks:
            message = f"{folder} lacks {rank_path(rank, 'nxdi')}, but has rank {max(ranks)}"
            raise InputError(message, hint=_AGAIN)
    path = contained_file(folder, NEURON_CONFIG)
    if path.is_file() and (tp := _tp_degree(path)) not in (None, len(ranks)):
        raise _wrong_count(folder, NEURON_CONFIG, tp, len(ranks))
    names = [Path(rank_path(rank, "nxdi")).name for rank in range(len(ranks))]
    return [read_safetensors_header(contained_file(weights, name)) for name in names]


def _tp_degree(path: Path) -> object:
    """What ``neuron_config.json`` says, nested or flat; None where it does not."""
    fields = read_json_object(path)
    nested = fields.get("neuron_config")
    return (nested if isinstance(nested, dict) else fields).get("tp_degree")


def _wrong_count(folder: Path, named_by: str, tp: object, found: int) -> InputError:
    message = f"{folder / named_by} says {tp} ranks; {NXDI_WEIGHTS} has files of {found}"
    return InputError(message, hint=_AGAIN)


def _find_rules(
    folder: Path, config: Mapping[str, Any], headers: Sequence[Header], source: str
) -> tuple[dict[str, ParamRule], dict[str, str]]:
    """How every tensor was cut, and the digest of every whole tensor that one is known of."""
    if read_layout(folder) is None:
        return _rules_of_others(folder, config, headers, source), {}
    split = read_split_manifest(folder, layout="nxdi")
    if split.tp != len(headers):
        raise _wrong_count(folder, SPLIT_FILE, split.tp, len(headers))
    rules = {name: tensor.rule for name, tensor in split.tensors.items()}
    return rules, {name: tensor.digest for name, tensor in split.tensors.items()}


def _rules_of_others(
    folder: Path, config: Mapping[str, Any], headers: Sequence[Header], source: str
) -> dict[str, ParamRule]:
    """The plan of config.json for as many ranks, where it leaves a writer no choice."""
    tp, model = len(headers), read_model_config(config, source=source)
    shapes = {name: stored.info.shape for name, stored in headers[0].items()}
    try:
        plan = plan_parallelism(model, joined_shapes(model, shapes, tp), tp)
    except (InputError, PlanError) as error:
        message = f"{folder} has no {SPLIT_FILE}, and config.json does not explain it: {error}"
        raise InputError(message, hint=_ORIGINAL) from error
    if plan.heads.extra_q_heads:
        message = (
            f"{folder} has no {SPLIT_FILE}: {model.num_heads} heads over tp={tp} ranks are padded,"
            " and config.json does not say where"
        )
        raise InputError(message, hint=_ORIGINAL)
    return dict(plan.rules)


def _check_headers(folder: Path, headers: Sequence[Header], rules: Mapping[str, ParamRule]) -> None:
    """Whether every rank has its part of every tensor, and nothing else, in one dtype."""
    for rank, header in enumerate(headers):
        path = folder / rank_path(rank, "nxdi")
        if odd := header.keys() ^ rules.keys():
            fault = "lacks" if min(odd) in rules else "has an unexpected"
            message = f"{path} {fault} tensor {min(odd)!r}"
            raise InputError(message, hint=_AGAIN)
        for name, rule in rules.items():
            found, dtype = header[name].info, headers[0][name].info.dtype
            if (found.shape, found.dtype) != (rule.rank_shape, dtype):
                message = (
                    f"{path} has {name!r} as {found.dtype.name} {list(found.shape)};"
                    f" expected {dtype.name} {list(rule.rank_shape)}"
                )
                raise InputError(message, hint=_AGAIN)
