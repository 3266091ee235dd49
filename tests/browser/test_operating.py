"""A day of an operator, in the browser. The tests follow each other on one deployment; each leaves its partitions alone."""

from __future__ import annotations

import dagster as dg
import pytest

from batchor_dagster import OnTermination
from batchor_dagster.control import ACTION_TAG, RUN_ID_TAG
from tests.browser.deployment import Shop
from tests.browser.ui import SENSOR, UI
from tests.support.waiting import until

A_DAY = 24 * 3600.0
LATER = ("lisbon", "oslo", "paris", "tokyo")


def test_a_partition_is_materialized_from_the_ui_and_lands(ui: UI, shop: Shop) -> None:
    ui.open_materialize_dialog("reviews_submission")
    ui.choose_partitions("berlin")
    ui.shot("materialize-a-partition")
    ui.launch()
    shop.wait_until_submitted("berlin")

    ui.open_partition("reviews_submission", "berlin")
    ui.see("running: 0 of 12 items done, 1 batch at the provider")
    ui.shot("submitted-partition")
    ui.go("/assets/reviews?view=partitions&partition=berlin", see="Missing (5)")
    ui.shot("result-is-missing-meanwhile")
    ui.go("/assets/reviews", see="running: 0 of 12 items done, 1 batch at the provider")
    ui.see("batchor/since")
    ui.shot("result-overview-meanwhile")

    shop.provider.advance(A_DAY)
    shop.wait_until_landed("berlin")
    ui.open_partition("reviews", "berlin")
    ui.see("berlin.parquet")
    ui.shot("landed-partition")
    ui.go("/assets/reviews?view=checks", see="all_items_completed")
    ui.see("Passed")
    ui.shot("check-passed")
    assert shop.times_landed("berlin") == 1


def test_materialize_all_submits_what_is_missing_and_ends_green(ui: UI, shop: Shop) -> None:
    for policy in OnTermination:  # they begin to wait meanwhile, for a later test
        ui.open_materialize_dialog(f"quick_{policy}")
        ui.see("Launched run")
    ui.open_materialize_all_dialog("reviews")
    ui.choose_partitions(*LATER)
    ui.shot("backfill-dialog")
    ui.launch()
    shop.wait_until_submitted(*LATER)
    until(shop.backfilled, "the backfill's runs to end", shop.explain)
    [run, *_] = shop.backfilled()
    assert {run.status for run in shop.backfilled()} == {dg.DagsterRunStatus.SUCCESS}
    ui.go(f"/runs/{run.run_id}", see="RUN_SUCCESS")
    ui.see("Next: the sensor looks after it")
    ui.shot("materialize-all-is-green")
    ui.go(SENSOR, see="batchor_results__reviews")
    ui.see("View logs")
    ui.button("0 runs requested").first.click()
    ui.see("rows done, next look in 1 s")
    ui.shot("what-the-sensor-says")


def test_a_run_is_paused_and_resumed_by_the_links_in_its_metadata(ui: UI, shop: Shop) -> None:
    ui.open_partition("reviews_submission", "lisbon")
    ui.see_control_links("pause", "cancel")
    ui.see("nothing is sent or fetched")
    ui.shot("control-links")
    ui.follow_control_link("pause")
    ui.see("run_id: reviews--lisbon")
    ui.shot("launchpad-filled-in")
    ui.launch_from_launchpad()
    shop.wait_for_state("reviews--lisbon", "paused")
    ui.see("paused; batches already at the provider go on there")
    ui.see("Success")
    ui.shot("control-run")

    shop.wait_for_shown_state("reviews--lisbon", "paused")
    ui.open_partition("reviews_submission", "lisbon")
    ui.see("paused: 0 of 12 items done")
    ui.shot("paused-partition")

    ui.see_control_links("resume", "cancel")
    ui.follow_control_link("resume")
    ui.launch_from_launchpad()
    shop.wait_for_state("reviews--lisbon", "running")


def test_a_run_is_cancelled_by_tags_from_the_launchpad(ui: UI, shop: Shop) -> None:
    ui.control_by_tags({RUN_ID_TAG: "reviews--oslo", ACTION_TAG: "cancel"})
    ui.shot("launchpad-with-tags")
    ui.launch_from_launchpad()
    shop.wait_for_state("reviews--oslo", "cancel_requested")


def test_many_runs_are_paused_by_executing_them_again_with_a_tag(ui: UI, shop: Shop) -> None:
    both = [f"reviews--{partition}" for partition in ("paris", "tokyo")]
    ui.open_re_execute_dialog(*(shop.submitting_run(run_id).run_id for run_id in both))
    ui.add_tags({ACTION_TAG: "pause"})
    ui.shot("re-execute-with-a-tag")
    ui.confirm("^Re-execute")
    for run_id in both:
        shop.wait_for_state(run_id, "paused")
    for run_id in both:
        shop.wait_for_shown_state(run_id, "paused")
    ui.show_all_runs()
    ui.see("batchor/state: paused")
    ui.shot("paused-runs-in-the-list")

    # and resumed by tags that come through the API, which the sensor finds
    for run_id in both:
        shop.instance.add_run_tags(shop.submitting_run(run_id).run_id, {ACTION_TAG: "resume"})
    for run_id in both:
        shop.wait_for_state(run_id, "running")


@pytest.mark.parametrize(
    ("policy", "state"), [("detach", "running"), ("pause", "paused"), ("cancel", "cancel_requested")]
)
def test_terminating_a_run_that_waits_follows_the_policy(ui: UI, shop: Shop, policy: str, state: str) -> None:
    run_id = f"quick_{policy}"
    run = shop.submitting_run(run_id)
    ui.terminate(run.run_id)

    def ended() -> bool:
        return shop.submitting_run(run_id).status is dg.DagsterRunStatus.CANCELED

    until(ended, f"{run_id} to be terminated", shop.explain)
    shop.wait_for_state(run_id, state)
    ui.go(f"/runs/{run.run_id}", see="RUN_CANCELED")
    ui.find_in_log(f"an operator terminated this run, and on_termination is {policy}")
    ui.shot(f"terminated-{policy}")


def test_everything_lands_once_and_the_check_fails_where_rows_failed(ui: UI, shop: Shop) -> None:
    shop.provider.advance(A_DAY)
    shop.wait_until_landed(*LATER)
    ui.go("/assets/reviews?view=checks", see="all_items_completed")
    ui.page.get_by_text("Execution history").click()
    ui.see("reviews--tokyo: 8 of 12 rows failed (66.67%), above the threshold of 5.00%")
    ui.shot("check-failed")
    ui.open_partition("reviews", "tokyo")
    ui.see("tokyo.parquet")
    ui.shot("partition-with-failed-rows")
    ui.open_partition("reviews", "oslo")
    ui.see("oslo.parquet")
    ui.shot("cancelled-partition")
    ui.go("/assets/reviews", see="Latest check results")
    ui.shot("asset-overview")
    assert {shop.times_landed(partition) for partition in ("berlin", *LATER)} == {1}
    assert not shop.provider.books.bodies_executed_twice
    until(lambda: shop.backfill_status() == "COMPLETED_SUCCESS", "the backfill to end", shop.explain)
    ui.go("/runs?view=backfills", see="reviews")
    ui.shot("backfill-of-both")
