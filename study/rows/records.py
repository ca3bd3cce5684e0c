"""The row schema: one planned cell of a study is one row, and the rows are the only truth about what was measured.

A study folder holds ``manifest.parquet`` (one row per planned cell: keys and parameters) and ``evals/*.parquet`` (a file for
each measured cell, or for many: keys, parameters, measurements). Both use the columns below, in this order; a column that does
not apply is null. What was measured is declared in `pfgm.metrics.columns`, and a row file carries those facts. Rows can be
written and read without torch or ray.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence, Set

import pyarrow as pa
import pyarrow.parquet as pq

from pfgm.metrics.columns import MEASURED
from study.rows.facts import TYPES, field_of
from study.rows.storage import Place

SCHEMA_VERSION = 1

STATUSES = ("complete", "failed", "diverged", "solver_limit", "timeout")
"""Terminal statuses of a measured cell. A planned cell without a row is `pending` in `analysis.load_study`."""
MISSED = "missed"
"""Status of a row on the way alone (``is_final`` false): the network of that step is gone, so it cannot be measured."""

_S, _F, _I, _B = pa.string(), pa.float64(), pa.int64(), pa.bool_()

KEYS: dict[str, pa.DataType] = {
    "study_id": _S, "cell_id": _S, "trial_id": _S, "point_id": _S, "train_id": _S, "sampler_id": _S,
    "seed_train": _I, "seed_sample": _I, "step": _I, "is_final": _B,
    "design_role": _S,          # of the training point: default, arm:<parameter>[+arm:…][+edge], sobol, grid, random, tpe
    "design_sampler_role": _S,  # role of the sampler point, same words
    "design_point": _S,         # JSON of the declared searched values: {"train": {…}, "sampler": {…}}
}  # fmt: skip

PARAMETERS: dict[str, pa.DataType] = {
    "data_name": _S, "data_hash": _S, "data_n": _I, "data_dim": _I, "data_center": _B,
    "network_name": _S, "network_width": _I, "network_depth": _I, "network_skip": _B,
    "network_root_below": _F, "network_patch": _I, "network_channel_mult": _S, "network_dropout": _F,
    "network_head": _S, "network_sigma_data": _F, "network_form": _S, "network_attention": _S, "network_labels": _I,
    "network_label": _I, "network_augment_dim": _I, "network_embedding": _S,
    "train_process": _S, "train_objective": _S, "train_gamma": _F, "train_sigma": _F, "train_tau": _F,
    "train_M": _F, "train_height_ratio": _F, "train_height_max": _F, "train_R_max": _F, "train_restrict_M": _B,
    "train_n_aug": _F, "train_P_mean": _F, "train_P_std": _F,
    "train_sigma_min": _F, "train_sigma_max": _F, "train_beta_min": _F, "train_beta_max": _F,
    "train_reference_batch_size": _I, "train_steps": _I, "train_batch_size": _I, "train_learning_rate": _F,
    "train_warmup_steps": _I, "train_constant_rate": _B, "train_gradient_clip": _F, "train_ema_decay": _F, "train_bf16": _B,
    "train_conditional": _B, "train_label_dropout": _F, "sampler_label": _S, "sampler_guidance": _F,
    "sampler_T": _F, "sampler_T_ratio": _F, "sampler_t_min": _F, "sampler_solver": _S, "sampler_rtol": _F,
    "sampler_atol": _F, "sampler_steps": _I, "sampler_grid": _S, "sampler_denoise": _B,
    "sampler_max_radius_ratio": _F, "sampler_precision": _S, "sampler_batch_size": _I,
    "perturb_kind": _S, "perturb_level": _F,  # noise, weight_bits or weight_noise, and how much; null: unperturbed
}  # fmt: skip

OUTCOME: dict[str, pa.DataType] = {"status": _S, "error": _S, "error_log": _S}

PROVENANCE: dict[str, pa.DataType] = {
    "prov_design": _S, "prov_training_version": _I, "prov_field_reused": _B, "prov_bundle": _I, "prov_device": _S,
    "prov_host": _S, "prov_threads": _I, "prov_torch": _S, "prov_python": _S, "prov_git": _S, "prov_version": _S,
    "prov_cpu": _S, "prov_finished_at": _S, "schema_version": _I,
}  # fmt: skip

MEASUREMENTS: dict[str, pa.DataType] = {**{column.name: TYPES[column.kind] for column in MEASURED}, **OUTCOME}
COLUMNS: dict[str, pa.DataType] = {**KEYS, **PARAMETERS, **MEASUREMENTS, **PROVENANCE}
EVALS = pa.schema(
    [*KEYS.items(), *PARAMETERS.items(), *(field_of(column) for column in MEASURED), *OUTCOME.items(), *PROVENANCE.items()]
)
MANIFEST = pa.schema([*KEYS.items(), *PARAMETERS.items(), ("prov_design", _S), ("schema_version", _I)])

HISTORY = pa.schema(
    [
        ("train_id", _S), ("seed_train", _I), ("step", _I), ("loss", _F), ("gradient_norm", _F),
        ("learning_rate", _F), ("elapsed_s", _F),
    ]
)  # fmt: skip
"""history/<train_id>.parquet: the mean training loss and gradient norm over the steps since the row before."""


def check_columns(names: Set[str], schema: pa.Schema) -> None:
    """Refuse columns that a schema lacks.

    Raises:
        KeyError: there are such.
    """
    if unknown := sorted(names - set(schema.names)):
        raise KeyError(f"columns not in the row schema: {', '.join(unknown)}; add them to study/rows/records.py")


def table(rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of ``schema``; a key that the schema lacks is an error, a missing one is null."""
    check_columns({name for row in rows for name in row}, schema)
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


Where = str | os.PathLike[str] | Place


class DamagedFile(ValueError):
    """A Parquet file that is truncated or was changed; the message is one line."""


_CHECKSUM = b"file.crc32="
"""Before the eight hexadecimal digits of the CRC-32 of a file in which those digits are zeros: page checksums leave the
footer out, and the footer is most of a file of one row."""


MANY = {"use_dictionary": True, "compression_level": 9}
"""How a file of many rows is stored; in a file of one row this takes more room and time."""


def write_table(where: Where, rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> None:
    """Write rows as a Parquet file; see `write_arrow`."""
    write_arrow(where, table(rows, schema))


def write_arrow(where: Where, rows: pa.Table, **encoding: object) -> bytes:
    """Write a Parquet file whole (see `study.rows.storage`), with a checksum on every page and one over the file.

    Args:
        encoding: how `pyarrow.parquet.ParquetWriter` is to store it, such as `MANY`.
    Returns:
        The content that was written.
    """
    plain = {"compression": "zstd", "write_statistics": False, "use_dictionary": False, "write_page_checksum": True}
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, rows.schema, **{**plain, **encoding}) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({"checksum": f"{_CHECKSUM.decode()}{0:08x}"})
    content: bytes = sink.getvalue().to_pybytes()
    content = content.replace(_CHECKSUM + b"0" * 8, _CHECKSUM + b"%08x" % zlib.crc32(content))
    Place.of(where).write(content)
    return content


def _is_whole(content: bytes) -> bool:
    """Return whether the file is as it was written; a file that says nothing of it (another program's) is taken as whole."""
    start = content.rfind(_CHECKSUM) + len(_CHECKSUM)
    if start < len(_CHECKSUM):
        return True
    zeros = content[:start] + b"0" * 8 + content[start + 8 :]
    return content[start : start + 8] == b"%08x" % zlib.crc32(zeros)


def read_arrow(where: Where, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet file as a table.

    Args:
        columns: those to read, where the file has them; None reads all.
    Raises:
        FileNotFoundError: no such file.
        DamagedFile: not a whole Parquet file, or it does not match its checksums.
    """
    return parse(Place.of(where).read(), where, columns)


def parse(content: bytes, where: object, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table that a file's content is; as `read_arrow`."""
    if not _is_whole(content):
        raise DamagedFile(f"{where}: not as it was written (its checksum differs)")
    try:
        file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False, page_checksum_verification=True)
        return file.read(columns=columns, use_threads=False).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(f"{where}: not a readable Parquet file ({str(error).splitlines()[0]})") from error


def read_table(where: Where) -> list[dict[str, object]]:
    """Rows of one Parquet file as dictionaries; errors as `read_arrow`."""
    rows: list[dict[str, object]] = read_arrow(where).to_pylist()
    return rows


_FILLED = {column.metric: column.name for column in MEASURED if column.filled}


def done_columns(metrics: Sequence[str]) -> list[str]:
    """Return the columns of a row that `is_done` looks at."""
    return ["status", "metric_names", *(_FILLED.get(name, f"metric_{name}") for name in metrics)]


def is_done(row: Mapping[str, object], metrics: Sequence[str]) -> bool:
    """Return whether a row is terminal and, when complete, has all of these metrics."""
    if row["status"] != "complete":
        return row["status"] in (*STATUSES, MISSED)
    if row.get("metric_names") is not None:
        return set(metrics) <= set(str(row["metric_names"]).split(","))
    return all(row.get(_FILLED.get(name, f"metric_{name}")) is not None for name in metrics if name != "solver_error")


def write_text(where: Where, text: str) -> None:
    """Write a text file whole, as `write_table` does."""
    Place.of(where).write(text.encode())


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
