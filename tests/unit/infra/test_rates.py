"""What tenants cost in a month at full quota."""

from __future__ import annotations

from decimal import Decimal

import pytest

from infra.failures import OperatorError
from infra.rates import TABLE, Rates, StoragePeriod, bill, in_force
from infra.spec.gpus import PRODUCTS


@pytest.fixture
def rates():
    return Rates.load()


@pytest.fixture
def lines(read, document, rates):
    """The lines of a tenant's bill, by cloud and what."""

    def of(tenant="chris", month="2026-11"):
        told = bill(read(document)[0], rates, month, [tenant])
        return {(line.cloud, line.what): line for line in told.lines}

    return of


def test_the_table_tells_its_sources_and_only_gpus_that_are_known(rates):
    assert all(source.startswith("https://") for source in rates.sources)
    assert {product for unit in rates.units for product in unit.products} <= set(PRODUCTS)


def test_gpus_take_their_share_and_the_rest_is_cpu(lines, document):
    # NERC: one V100 has 48 cores and 192 GiB; a CPU unit a core and 4 GiB.
    document["tenants"][0]["openshift"]["quotas"] |= {"limits_cpu": 100, "limits_memory_mib": 2 * 196608 + 5 * 4096}
    found = lines()
    gpu = found["openshift", "Tesla-V100-PCIE-32GB"]
    assert (gpu.unit, gpu.amount, gpu.hourly) == ("GPUV100", 2, Decimal("1.214"))
    assert gpu.monthly == Decimal("1748.16")
    rest = found["openshift", "cores and memory"]
    assert (rest.amount, rest.monthly) == (5, Decimal("46.80"))


def test_memory_counts_where_there_is_more_of_it(lines, document):
    document["tenants"][1]["openshift"] = {"quotas": {"limits_cpu": 3, "limits_memory_mib": 20 * 1024}}
    # NERC's own example: 3 cores and 20 GiB are 5 units, 46.80 in a month of 720 hours.
    line = lines("other")["openshift", "cores and memory"]
    assert (line.amount, line.monthly) == (5, Decimal("46.80"))


def test_storage_is_charged_as_granted(lines, document):
    document["tenants"][0]["openstack"]["quotas"] = {"object_bytes": "10 TiB", "volume": {"gigabytes": 500}}
    found = lines()
    # NERC's own example: 10 TiB for 720 hours at 0.009 the TiB and hour.
    assert found["openstack", "objects"].monthly == Decimal("64.80")
    assert found["openstack", "volumes"].monthly == Decimal("3.16")
    assert found["openshift", "persistent volumes"].amount == 20


def test_gpus_of_servers_count_on_openstack(lines):
    assert lines()["openstack", "Tesla-V100-PCIE-32GB"].amount == 2


def test_months_differ_in_hours_and_in_rates(lines, document):
    document["node_pools"][1]["gpu"] = {"product": "NVIDIA-H100-80GB-HBM3", "count": 1}
    document["tenants"][1]["openshift"] = {"quotas": {"gpus": {"NVIDIA-H100-80GB-HBM3": 1}}}
    by_month = {
        month: lines("other", month)["openshift", "NVIDIA-H100-80GB-HBM3"].monthly for month in ("2025-05", "2025-06", "2027-02")
    }
    assert by_month == {"2025-05": Decimal("4493.76"), "2025-06": Decimal("2880.00"), "2027-02": Decimal("2688.00")}
    assert lines("other", "2024-12")["openshift", "NVIDIA-H100-80GB-HBM3"].monthly is None


def test_what_has_no_limit_or_no_rate_has_no_sum(read, document, rates):
    document["tenants"][1]["openstack"] = {"quotas": {"compute": {"cores": -1}}}
    document["node_pools"][1]["gpu"] = {"product": "NVIDIA-L4", "count": 1}
    document["tenants"][1]["openshift"] = {"quotas": {"gpus": {"NVIDIA-L4": 1}}}
    told = bill(read(document)[0], rates, "2026-11", ["other"])
    unknown = {(line.cloud, line.what): line.amount for line in told.lines if line.monthly is None}
    assert unknown == {("openstack", "cores and memory"): None, ("openstack", "objects"): None, ("openshift", "NVIDIA-L4"): 1}
    assert not told.whole
    document = told.document()
    assert document["whole"] is False
    assert document["tenants"]["other"] == document["total"]
    assert [line["unit"] for line in document["lines"] if line["what"] == "NVIDIA-L4"] == ["no rate"]


def test_a_period_goes_on_until_the_next():
    periods = [StoragePeriod.model_validate({"from": each, "hourly_gib": "1"}) for each in ("2024-06", "2023-06")]
    assert [in_force(periods, month) and in_force(periods, month).from_ for month in ("2023-05", "2024-05", "2024-06")] == [
        None,
        "2023-06",
        "2024-06",
    ]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("name: mine", "is no rate table: currency: Field required"),
        (TABLE.read_text().replace("name: CPU", "name: core"), "is no rate table: the document: .*no unit is called CPU"),
    ],
)
def test_a_table_that_is_none(tmp_path, text, cause):
    file = tmp_path / "rates.yml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(OperatorError, match=cause):
        Rates.load(file)
