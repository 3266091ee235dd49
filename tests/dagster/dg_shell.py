"""Runs dg commands and loads projects, one after the other in one process: importing Dagster takes longer than any of them.

Each line of standard input is a JSON list: a project's folder, then the command's arguments, or ``definitions`` alone to tell what a code
location of the project has, or ``land`` with a batch asset to submit it and let the sensor bring its results. The answer is a line too: the
exit code, and what was printed.
"""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
from dagster_dg_cli.cli import cli

PACKAGE = "shop"


def definitions() -> None:
    """As the daemon would load them."""
    from shop.definitions import defs  # type: ignore[import-not-found]

    made = defs().get_repository_def()
    found = {
        "jobs": sorted(name for name in made.job_names if not name.startswith("__")),
        "sensors": sorted(sensor.name for sensor in made.sensor_defs),
        "resources": sorted(key for key in made.get_top_level_resources() if key != "io_manager"),
    }
    print(json.dumps(found))


def land(asset: str) -> None:
    """Submit a batch asset, tick the sensor until it asks for the results, and write these."""
    from shop.definitions import defs

    repository = defs().get_repository_def()
    [sensor] = repository.sensor_defs
    with dg.DagsterInstance.ephemeral() as instance:
        submission = repository.get_implicit_global_asset_job_def().get_subset(
            asset_selection={dg.AssetKey(f"{asset}_submission")}
        )
        assert submission.execute_in_process(instance=instance).success
        for _ in range(100):
            with dg.build_sensor_context(
                instance=instance, repository_def=repository, resources=repository.get_top_level_resources()
            ) as context:
                tick = sensor(context)
            if tick.run_requests:
                break
        [request] = tick.run_requests
        job = repository.get_job(request.job_name).get_subset(asset_selection=set(request.asset_selection))
        assert job.execute_in_process(instance=instance, tags=request.tags).success


def execute(arguments: Sequence[str]) -> int:
    """The exit code of one command."""
    try:
        if list(arguments) == ["definitions"]:
            definitions()
        elif arguments[0] == "land":
            land(*arguments[1:])
        else:
            cli.main(args=list(arguments), prog_name="dg")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def enter(project: Path) -> None:
    """Be a fresh process in a project, as far as its own modules go."""
    os.chdir(project)
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]
    sys.path[0] = str(project / "src")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        folder, *arguments = json.loads(line)
        enter(Path(folder))
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            for stream in (1, 2):  # of what the command starts, too
                os.dup2(said.fileno(), stream)
            code = execute(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
            said.seek(0)
            print(json.dumps([code, said.read()]), file=answers, flush=True)


if __name__ == "__main__":
    main()
