"""``price``: what tenants cost in a month at full quota."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import JsonOption, SiteArgument, asked
from infra.console import out, print_json, table
from infra.failures import EXIT_UNKNOWN, OperatorError
from infra.rates import TABLE, Bill, Rates, bill

MonthOption = Annotated[
    datetime | None, typer.Option("--month", formats=["%Y-%m"], help="The month. Default: this one (UTC).", show_default=False)
]
RatesOption = Annotated[Path, typer.Option("--rates", help="Another rate table.", show_default="NERC's")]
TenantOption = Annotated[list[str] | None, typer.Option("--tenant", help="Only this tenant. May be repeated.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("price")(price)


def price(
    site: SiteArgument,
    *,
    tenant: TenantOption = None,
    month: MonthOption = None,
    rates: RatesOption = TABLE,
    as_json: JsonOption = False,
) -> None:
    """Tell what tenants cost in a month in which they use all that they are granted.

    GPUs are charged as service units, each with its share of cores and memory; what is left of the quota as CPU units; storage
    by what is granted. Exit status: 0, or 3 when something has no limit or no rate, so that the sums are lower bounds.
    """
    found = asked(site, warn=False).site
    names = {each.name for each in found.tenants}
    for name in tenant or ():
        if name not in names:
            raise OperatorError(f"the site has no tenant '{name}'", f"its tenants: {', '.join(sorted(names)) or 'none'}")
    told = bill(found, Rates.load(rates), f"{month or datetime.now(UTC):%Y-%m}", tenant or ())
    if as_json:
        print_json(told.document())
    else:
        _show(told)
    if not told.whole:
        raise typer.Exit(EXIT_UNKNOWN)


def _show(told: Bill) -> None:
    shown = table("Tenant", "Cloud", "What", "Amount", "Unit", f"{told.rates.currency}/month")
    shown.columns[3].justify = shown.columns[5].justify = "right"
    for line in told.lines:
        if line.amount != 0:
            amount = "no limit" if line.amount is None else str(line.amount)
            shown.add_row(
                line.tenant, line.cloud, line.what, amount, line.unit, "?" if line.monthly is None else f"{line.monthly:,}"
            )
    for name, total in told.tenants.items():
        whole = all(line.monthly is not None for line in told.lines if line.tenant == name)
        shown.add_row(name, "", "all", "", "", f"{'' if whole else 'at least '}{total:,}", style="bold")
    out.print(shown)
    out.print(f"{told.month}, {told.hours} hours; rates of {told.rates.name} as of {told.rates.read}")
