"""``batchor cap``: the most that may be spent."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer
from rich.table import Table

from batchor_core.cli.commands import AsJson, takes_stores
from batchor_core.cli.console import say, show, show_json, stdout, text
from batchor_core.cli.looking import number
from batchor_core.cli.profiles import near
from batchor_core.cli.stores import Stores
from batchor_core.cli.tables import show_table
from batchor_core.core.caps import Cap, CapMeasure, amount_text
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.runtime.runner import BatchRunner

_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(,[0-9]{3})+([.][0-9]*)?")

Usd = Annotated[
    str | None, typer.Option("--cap", metavar="USD", help="The most that the run may cost, in US dollars.")
]


@takes_stores
def cap(
    stores: Stores,
    scope: Annotated[
        str | None,
        typer.Argument(
            metavar="SCOPE",
            help="store, run, asset or tag:NAME for each, or run:ID, asset:KEY or tag:NAME=VALUE. All caps without it.",
        ),
    ] = None,
    usd: Annotated[str | None, typer.Option("--usd", metavar="AMOUNT", help="US dollars.")] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", min=0, metavar="N", help="Rows, each as often as it is sent.")
    ] = None,
    day: Annotated[bool, typer.Option("--day", help="A day, in UTC, and not for good.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove every cap of this scope.")] = False,
    create: Annotated[bool, typer.Option("--create", help="Create the store if there is none yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the caps of a store, set one, or raise it. Runs that have paused at it go on when they are resumed."""
    limits = usd is not None or rows is not None or day
    if scope is None and (limits or remove):
        raise InvalidInputError("say whose cap it is: batchor cap SCOPE, such as store or run:ID")
    if remove and limits:
        raise InvalidInputError("--remove removes every cap of the scope: leave out --usd, --rows and --day")
    new = None
    if scope is not None and not remove:
        new = Cap(usd=dollars_given(usd), rows=rows, scope=scope, per="day" if day else None)
    with stores.runner(create=create and new is not None) as runner:
        if new is not None:
            _set(runner, new)
        elif scope is not None:
            _remove(runner, scope)
        caps = runner.list_caps()
    if as_json:
        show_json([_json(one) for one in caps])
    elif not caps:
        show("no caps")
    else:
        table = Table("For", number("At most"), "")
        for one in caps:
            table.add_row(text(one.scope), amount_text(one.measure, one.limit), "a day" if one.per else "")
        show_table(table, stdout())


def dollars_given(usd: str | None) -> Decimal | None:
    """The amount that was typed. A comma separates thousands only: 1,5 may mean 1.5, and is refused.

    Raises:
        InvalidInputError: It is no number.
    """
    if usd is None:
        return None
    amount = usd.removeprefix("$")
    try:
        return Decimal(amount.replace(",", "") if _THOUSANDS.fullmatch(amount) else amount)
    except InvalidOperation:
        raise InvalidInputError(f"{usd!r} is no amount of US dollars; write it like 1.50 or 1,000") from None


def _set(runner: BatchRunner, cap: Cap) -> None:
    runner.set_cap(cap)
    if cap.scope.startswith("run:") and not runner.has_run(run_id := cap.scope.removeprefix("run:")):
        say(f"there is no run {run_id} yet: the cap will hold for the run that is given this name")


def _remove(runner: BatchRunner, scope: str) -> None:
    known = runner.list_caps()
    found = [cap for cap in known if cap.scope == scope]
    if not found:
        raise InvalidInputError(f"there is no cap for {scope!r}{near(scope, {cap.scope for cap in known})}")
    for cap in found:
        runner.remove_cap(cap)


def _json(cap: Cap) -> dict[str, Any]:
    limit = float(cap.usd or 0) if cap.measure is CapMeasure.USD else cap.rows
    return {"scope": cap.scope, "measure": cap.measure.value, "limit": limit, "per": cap.per}
