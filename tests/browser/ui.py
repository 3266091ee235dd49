"""What an operator does in Dagster's UI, in an operator's words. Written for dagster-webserver 1.13.27."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.support.dagster_processes import LOCATION

LAUNCHPAD = f"/locations/{LOCATION}/jobs/batchor_control/playground"
SENSOR = f"/locations/{LOCATION}/sensors/batchor_sensor"


class UI:
    """A browser on the deployment; keeps numbered screenshots."""

    def __init__(self, page: Page, url: str, shots: Path) -> None:
        self.page = page
        self._url = url
        self._shots = shots

    def go(self, path: str, *, see: str) -> None:
        """Open a page, and wait until it shows a text."""
        self.page.goto(self._url + path)
        self.see(see)

    def see(self, text: str | re.Pattern[str]) -> None:
        """Wait until a text is on the page."""
        expect(self.page.get_by_text(text).locator("visible=true").first).to_be_visible()

    def find_in_log(self, text: str) -> None:
        """On a Dagster run's page: filter its log for a text. The page draws no more of a log than fits the screen."""
        self.page.get_by_placeholder("Filter").last.fill(text)
        self.see(text)

    def shot(self, name: str) -> None:
        """Keep what is to be seen now."""
        number = len(list(self._shots.glob("*.png"))) + 1
        self.page.screenshot(path=self._shots / f"{number:02}-{name}.png", animations="disabled")

    @property
    def dialog(self) -> Locator:
        """The topmost dialog."""
        return self.page.get_by_role("dialog").last

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role("button", name=name)

    # --- materializing -----------------------------------------------------------------------------------------------

    def open_materialize_dialog(self, asset: str) -> None:
        self.go(f"/assets/{asset}", see="Definition")
        self.button("Materialize").first.click()

    def open_materialize_all_dialog(self, group: str) -> None:
        """The first button that an operator finds: everything in a group, submissions and results together."""
        self.go(f"/locations/{LOCATION}/asset-groups/{group}", see="Materialize all")
        self.button("Materialize all").first.click()

    def choose_partitions(self, *partitions: str) -> None:
        """Tick partitions in the dialog's list."""
        self.dialog.get_by_text("Select a partition or create one").click()
        for partition in partitions:
            self.page.get_by_text(partition, exact=True).locator("visible=true").last.click()
        self.page.keyboard.press("Escape")  # closes the list, not the dialog

    def launch(self) -> None:
        """The dialog's last button: launch one run, or a backfill."""
        self.button(re.compile("^Launch")).last.click()
        expect(self.page.get_by_text("Partition selection")).to_be_hidden()

    # --- controlling -------------------------------------------------------------------------------------------------

    def open_partition(self, asset: str, partition: str) -> None:
        self.go(f"/assets/{asset}?view=partitions&partition={partition}", see="Metadata")

    def see_control_links(self, *actions: str) -> None:
        """On a partition's page: the links that its run's state allows, and no others."""
        row = self.page.locator("tr", has=self.page.get_by_text("batchor/controls", exact=True)).first
        expect(row.get_by_role("link")).to_have_text(list(actions))

    def follow_control_link(self, action: str) -> None:
        self.page.get_by_role("link", name=action, exact=True).first.click()
        self.page.wait_for_url("**/playground")
        self.see("apply_batchor_control")

    def launch_from_launchpad(self) -> None:
        self.button("Launch Run").click()
        self.page.wait_for_url("**/runs/*")

    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Fill in the tag fields of the dialog that is open."""
        for tag, value in tags.items():
            keys, values = (
                self.dialog.get_by_placeholder("Tag Key"),
                self.dialog.get_by_placeholder("Tag Value"),
            )
            if not keys.count() or keys.last.input_value():
                self.dialog.get_by_role("button", name="Add custom tag").click()
            keys.last.fill(tag)
            values.last.fill(value)

    def control_by_tags(self, tags: Mapping[str, str]) -> None:
        """Fill the launchpad's tags in; nothing is launched yet."""
        self.go(LAUNCHPAD, see="apply_batchor_control")
        self.button("Edit tags").click()
        self.add_tags(tags)
        self.dialog.get_by_role("button", name="Apply").click()
        expect(self.dialog).to_be_hidden()

    def show_all_runs(self) -> None:
        """The list of Dagster runs, with those of backfills."""
        self.go("/runs", see="Created at")
        self.page.get_by_text("Show runs within backfills").click()

    def choose_runs(self, *dagster_run_ids: str) -> None:
        """Tick Dagster runs in the list of all runs, and open the menu."""
        self.show_all_runs()
        for run_id in dagster_run_ids:
            name = self.page.get_by_text(run_id[:8], exact=True).locator("visible=true").first
            name.locator("xpath=ancestor::*[.//input[@type='checkbox']][1]").locator("label").first.click()
        self.button("Actions").click()

    def open_re_execute_dialog(self, *dagster_run_ids: str) -> None:
        self.choose_runs(*dagster_run_ids)
        self.page.get_by_text(re.compile(r"^Re-execute \d+ runs?$")).locator("visible=true").first.click()

    def confirm(self, name: str) -> None:
        """Press a dialog's button and wait for its work to be done."""
        self.dialog.get_by_role("button", name=re.compile(name)).click()
        self.see(re.compile("Successfully"))

    def terminate(self, dagster_run_id: str) -> None:
        self.go(f"/runs/{dagster_run_id}", see="Executing (1)")
        self.button("Terminate").click()
        self.dialog.get_by_role("button", name=re.compile("^Terminate")).click()
