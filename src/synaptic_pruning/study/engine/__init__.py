"""Run the cells of any study, each once: records, runner, executors, provenance. It knows no task."""

from synaptic_pruning.study.engine.atomic_write import write_atomically, write_table
from synaptic_pruning.study.engine.local import Processes, Work, cores
from synaptic_pruning.study.engine.provenance import (
    PRUNING_CODE,
    code_digest,
    content_hash,
    hashed_versions,
    peak_memory_mb,
    save_network,
    stable_repr,
    versions,
)
from synaptic_pruning.study.engine.ray_cluster import RayCluster
from synaptic_pruning.study.engine.records import (
    Job,
    Outcome,
    Record,
    Team,
    TeamRecord,
    cells_of,
    failure,
    group,
    is_final,
    read_record,
    write_record,
)
from synaptic_pruning.study.engine.runner import Executor, in_flight, run
from synaptic_pruning.study.engine.study_info import About

__all__ = [
    "PRUNING_CODE",
    "About",
    "Executor",
    "Job",
    "Outcome",
    "Processes",
    "RayCluster",
    "Record",
    "Team",
    "TeamRecord",
    "Work",
    "cells_of",
    "code_digest",
    "content_hash",
    "cores",
    "failure",
    "group",
    "hashed_versions",
    "in_flight",
    "is_final",
    "peak_memory_mb",
    "read_record",
    "run",
    "save_network",
    "stable_repr",
    "versions",
    "write_atomically",
    "write_record",
    "write_table",
]
