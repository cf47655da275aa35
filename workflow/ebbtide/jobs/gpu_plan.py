"""The GPUs of a run: how many its jobs may take at a time, and how many each takes."""

from functools import cached_property

from ebbtide.grid import Checkpoint
from ebbtide.jobs.devices import Device, visible_devices
from ebbtide.jobs.gpu_jobs import most_gpus, no_window, uses_gpus, windows
from ebbtide.jobs.leads import LEAD, ScoreJobs
from ebbtide.jobs.leases import Window
from ebbtide.scoring.placement import VALUE_BYTES
from ebbtide.study.study import Study


class GpuPlan:
    """The GPUs of the scoring jobs of one run on this machine.

    Only the job that scores takes GPUs: the lead of a checkpoint or model. Copies and followers take none, so
    followers do not keep the leads of other checkpoints from GPUs. A follower whose lead has failed leases
    GPUs when it scores.
    """

    def __init__(self, study: Study, jobs: ScoreJobs, *, planning: bool) -> None:
        """`planning` is false in a job that parses the workflow again, which plans nothing."""
        self._study, self._jobs, self._planning = study, jobs, planning

    @property
    def limit(self) -> int:
        """Number of GPUs that the jobs of the run take at a time."""
        most = self._study.config["scoring"]["gpus"]
        return min(len(self._devices), len(self._devices) if most is None else most)

    def of_job(self, model: str, checkpoint: str, task: str) -> int:
        """Return the number of GPUs that the job of a cell takes."""
        if not self.limit or self._jobs.priority(model, checkpoint, task) != LEAD:
            return 0
        alternatives = self._windows(self._study.checkpoint(model, checkpoint), self._study.backend(task))
        return len(alternatives[0]) if alternatives else self.limit

    @cached_property
    def problem(self) -> str | None:
        """The message for the first checkpoint to score that does not fit on the GPUs, or None.

        It is computed from the size of the files; the job compares the weights themselves.
        """
        if not self.limit:
            return None
        backends = self._study.backends()
        for checkpoint in self._study.checkpoints():
            for backend in backends:
                if not self._windows(checkpoint, backend) and self._is_missing(checkpoint, backend):
                    name = f"{checkpoint.model}/{checkpoint.name}"
                    weights, dtype = self._weights(checkpoint)
                    return str(no_window(name, weights, dtype, self._devices, self.limit, backend=backend))
        return None

    def _is_missing(self, checkpoint: Checkpoint, backend: str) -> bool:
        tasks = (task for task in self._study.tasks if self._study.backend(task) == backend)
        return any(self._jobs.is_missing(checkpoint.model, checkpoint.name, task) for task in tasks)

    def _windows(self, checkpoint: Checkpoint, backend: str) -> list[Window]:
        weights, _ = self._weights(checkpoint)
        offload = self._study.config["scoring"]["offload"]
        return windows(self._devices, weights, most_gpus(backend, self.limit), offload=offload)

    def _weights(self, checkpoint: Checkpoint) -> tuple[int, str]:
        """Estimate the bytes of the weights in the precision to score in, which is also returned."""
        dtype = self._study.config["scoring"]["dtype"]
        dtype = checkpoint.dtype if dtype == "checkpoint" else dtype
        saved, loaded = (VALUE_BYTES.get(name) for name in (checkpoint.dtype, dtype))
        return checkpoint.size_bytes * loaded // saved if saved and loaded else checkpoint.size_bytes, dtype

    @cached_property
    def _devices(self) -> tuple[Device, ...]:
        scoring = self._study.config["scoring"]
        if not self._planning or scoring["gpus"] == 0 or not uses_gpus(scoring["backend"]):
            return ()
        return visible_devices().devices
