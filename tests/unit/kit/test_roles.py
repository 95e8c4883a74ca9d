"""What holds for every role, so that its options are found in one hop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
GROUP_VARS = ROOT / "inventories" / "common" / "group_vars" / "all"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("role", ROLES)
def test_the_argument_specs_and_the_defaults_are_the_same_options(role):
    options = read(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = read(ROOT / "roles" / role / "defaults" / "main.yml")
    assert {name: option["default"] for name, option in options.items()} == defaults


@pytest.mark.parametrize("role", ROLES)
def test_the_names_of_variables_tell_their_role_and_audience(role):
    assert all(name.startswith(f"{role}_") for name in read(ROOT / "roles" / role / "defaults" / "main.yml"))
    variables = ROOT / "roles" / role / "vars"
    for private in (*variables.glob("main.yml"), *variables.glob("main/*.yml")):
        assert all(name.startswith(f"_{role}_") for name in read(private)), private.name


@pytest.mark.parametrize("role", ROLES)
def test_molecule_gives_each_option_in_one_of_its_scenarios(role):
    inventories = sorted((ROOT / "roles" / role / "molecule").glob("*/inventory/hosts.yml"))
    assert "default" in {inventory.parents[1].name for inventory in inventories}
    given = {name for inventory in inventories for name in read(inventory)["all"]["vars"]}
    assert read(ROOT / "roles" / role / "defaults" / "main.yml").keys() <= given


@pytest.mark.parametrize("file", sorted(GROUP_VARS.glob("*.yml")), ids=lambda path: path.stem)
def test_a_file_of_group_variables_sets_options_of_its_role_only(file):
    if file.stem == "site":
        assert all(name == "site" or name.startswith("site_") for name in read(file))
    else:
        assert read(file).keys() <= read(ROOT / "roles" / file.stem / "defaults" / "main.yml").keys()


def test_every_group_is_a_role():
    assert read(ROOT / "inventories" / "common" / "hosts.yml").keys() <= set(ROLES)


@pytest.mark.parametrize("name", ["pl-simpledsapp", "pl-med2image", "pl-pfdicom_tagextract"])
def test_the_lock_of_a_plugin_holds_what_its_requirements_ask_for(name):
    directory = ROOT / "roles" / "plugin_images" / "files" / name
    lock = (directory / "requirements.txt").read_text()
    for line in (directory / "requirements.in").read_text().splitlines():
        if "==" in line and not line.startswith("#"):
            assert line.replace("_", "-") in lock
    assert "--hash=sha256:" in lock
    assert "://" not in lock, "a lock names packages, not the place that they came from"


def test_the_plugins_of_the_workflow_are_made_by_the_role():
    made = {
        f"localhost/chris/{plugin['name']}:{plugin['version']}"
        for plugin in read(ROOT / "roles" / "plugin_images" / "defaults" / "main.yml")["plugin_images_plugins"]
    }
    assert {node["image"] for node in read(ROOT / "workflows" / "dicom.yml")["nodes"]} <= made
