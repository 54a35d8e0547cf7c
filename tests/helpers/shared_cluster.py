"""The Ray cluster of all tests that need one in their own process."""

import shutil
import tempfile


class SharedCluster:
    """A cluster that tests join one after another, so that it starts once."""

    def __init__(self) -> None:
        self._directory: str | None = None

    def start(self) -> None:
        """Start it, if it does not run already."""
        import ray

        if self._directory is not None and ray.is_initialized():
            return
        self.end()
        self._directory = tempfile.mkdtemp(prefix="ray-")  # short: sockets below it may have only 107 characters
        ray.init(
            "local",
            num_cpus=1,  # a thread in each actor: a tiny model has no work for two
            include_dashboard=False,
            object_store_memory=256 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
            namespace="rankone",
            _temp_dir=self._directory,
        )

    def end(self) -> None:
        """End it with everything in it, if it was started."""
        if self._directory is not None:
            import ray

            ray.shutdown()
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
