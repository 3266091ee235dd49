"""Links into the Dagster UI that open the control job's launchpad with a run and an action filled in."""

from collections.abc import Iterable
from urllib.parse import quote, urlencode

import yaml

from batchor_dagster.control.actions import EFFECTS, ControlAction
from batchor_dagster.control.job import CONTROL_JOB, CONTROL_OP
from batchor_dagster.control.tags import RUN_ID_TAG


def launchpad_url(
    run_id: str,
    action: ControlAction | str,
    *,
    location: str | None = None,
    webserver_url: str = "",
    job_name: str = CONTROL_JOB,
) -> str:
    """A link that opens the control job's launchpad with this run and action filled in.

    The form is that of dagster-webserver 1.13.27 (``LaunchpadSetupRoot``): ``playground/setup`` reads ``config`` and
    ``tags[n][key|value]`` from the query, makes a launchpad tab of them, and launches nothing by itself.

    Args:
        run_id: The batch run.
        action: The action to fill in.
        location: Code location of the job. Without it the page looks for the job in all of them.
        webserver_url: Put before the path if a relative link would not work.
        job_name: The control job, if it was given another name.
    """
    config = {"ops": {CONTROL_OP: {"config": {"run_id": run_id, "action": str(ControlAction.parse(action))}}}}
    query = {
        "config": yaml.safe_dump(config, sort_keys=False),
        "tags[0][key]": RUN_ID_TAG,
        "tags[0][value]": run_id,
    }
    jobs = f"/locations/{quote(location, safe='')}/jobs" if location else "/guess"
    return (
        f"{webserver_url.rstrip('/')}{jobs}/{job_name}/playground/setup?{urlencode(query, quote_via=quote)}"
    )


def control_links(
    run_id: str,
    *,
    location: str | None = None,
    webserver_url: str = "",
    job_name: str = CONTROL_JOB,
    actions: Iterable[ControlAction] = tuple(ControlAction),
) -> str:
    """Markdown with one launchpad link per action, and what it does.

    Args:
        run_id: The batch run.
        location: As in :func:`launchpad_url`.
        webserver_url: As in :func:`launchpad_url`.
        job_name: As in :func:`launchpad_url`.
        actions: Which ones; all of them by default.
    """

    def link(action: ControlAction) -> str:
        return launchpad_url(
            run_id, action, location=location, webserver_url=webserver_url, job_name=job_name
        )

    return "\n".join(
        f"- [{action.replace('_', ' ')}]({link(action)}) {EFFECTS[action]}" for action in actions
    )
