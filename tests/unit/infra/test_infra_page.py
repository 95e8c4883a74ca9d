"""The page on the commands says what they are."""

from __future__ import annotations

from pathlib import Path

from infra.__main__ import LIGHT
from infra.commands import NAMES
from infra.policy.pack import policies
from infra.rates import Rates, in_force

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "infra.md").read_text()


def cells(section):
    rows = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("| ")][1:]


def test_every_command_is_there():
    named = {line.split("`")[1].split()[0] for line in PAGE.splitlines() if line.startswith("| `") and " SITE" in line}
    assert named == {*NAMES, LIGHT[0]}


def test_every_policy_is_there():
    assert [row[0].strip("`") for row in cells("Policies")] == [policy.name for policy in policies()]


def test_the_rates_are_those_of_the_table():
    rates = Rates.load()
    assert f"read on {rates.read}" in PAGE
    assert all(source in PAGE for source in rates.sources)
    units = {unit.name: in_force(unit.periods, "2026-11") for unit in rates.units}
    rows = {row[0]: row for row in cells("Rates")}
    assert set(rows) == {*units, "a TiB of storage"}
    for name, unit in units.items():
        _, _, cores, memory, hourly = rows[name]
        assert (int(cores), memory) == (unit.vcpus, f"{unit.ram_mib // 1024} GiB")
        assert float(hourly.partition(",")[0]) == float(unit.hourly)
    storage = in_force(rates.storage, "2026-11")
    assert float(rows["a TiB of storage"][4]) == float(storage.hourly_gib) * 1024
