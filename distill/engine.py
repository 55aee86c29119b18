"""Works through the missing parts of an artifact: in this process, or on a Ray cluster."""

from collections.abc import Callable, Sequence

from distill import console
from distill.console import Bar
from distill.errors import Refused
from distill.runtime import Runtime

Worker = Callable[[int, Bar], None]
"""Turns part k of the input into part k of the output, commits it, and moves the bar by its rows."""


def work(make: Callable[[], Worker], parts: Sequence[int], rows: int, name: str, runtime: Runtime) -> None:
    """Do the missing parts.

    Doing a part again is harmless, and which worker does it makes no difference, so a run may go on
    on another number of devices or under another engine.

    Args:
        make: Loads a model, once a worker; not called when nothing is missing. Picklable.
        parts: Numbers of the missing parts.
        rows: Rows in them, for the bar.
        name: For the bar.
        runtime: Which engine, how many workers.
    """
    if not parts:
        return
    if runtime.engine == "ray":
        _ray(make, parts, runtime)
        return
    worker = make()
    with console.bar(name, rows) as bar:
        for part in parts:
            worker(part, bar)


def _ray(make: Callable[[], Worker], parts: Sequence[int], runtime: Runtime) -> None:
    """One actor a device; one task a part. The output folder must be reachable from every node."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise Refused("runtime.engine is ray, which is not installed. pip install -e '.[scale]'.") from error

    from ray.util import ActorPool

    class Actor:
        def __init__(self) -> None:
            self._worker = make()

        def do(self, part: int) -> None:
            with console.bar("", 0) as bar:
                self._worker(part, bar)

    ray.init(ignore_reinit_error=True, log_to_driver=False)
    gpu = int(ray.cluster_resources().get("GPU", 0) > 0)
    remote = ray.remote(num_gpus=gpu, num_cpus=0 if gpu else 1)(Actor)
    actors = [remote.remote() for _ in range(min(runtime.devices * runtime.nodes, len(parts)))]
    for _ in ActorPool(actors).map_unordered(lambda actor, part: actor.do.remote(part), list(parts)):
        pass
