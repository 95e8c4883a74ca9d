"""Bad documents: every problem at once, and where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfmoc.workflow import resources, workflow
from pfmoc.workflow.problems import Problems

REPOSITORY = Path(__file__).parents[3]
GOOD = "{name: a, image: x, entrypoint: [p]}"


def problems_of(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(Problems) as caught:
        workflow.load(path)
    return [line.removeprefix(str(path)) for line in caught.value.lines]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ": must be a mapping"),
        ("[]", ": must be a mapping"),
        ("name: w\nnodes: [", ":2:9: expected the node content, but found '<stream end>'"),
        ("name: w\nname: v", ":2:1: 'name' is twice in one mapping"),
        ("name: w", ": nodes: is missing"),
        ("name: w\nnodes: []", ": nodes: must not be empty"),
        (f"name: w\nnodes: [{GOOD}]\ncolour: red", ": colour: there is no such field"),
        (f"name: W W\nnodes: [{GOOD}]", ": name: must hold only small letters, digits"),
        ("name: w\nnodes: [{name: a, image: x}]", ": nodes[0].entrypoint: is missing"),
        ("name: w\nnodes: [{name: a, image: x, entrypoint: p}]", ": nodes[0].entrypoint: must be a list"),
        (
            "name: w\nnodes: [{name: a, image: x, entrypoint: [p], args: [1]}]",
            ": nodes[0].args[0]: must be text; put it in quotes",
        ),
        ("name: w\nnodes: [{name: input, image: x, entrypoint: [p]}]", ": nodes[0].name: 'input' stands for the input"),
        (
            "name: w\nnodes: [{name: a, image: x, entrypoint: [p], type: xs}]",
            ": nodes[0].type: Input should be 'ds', 'fs' or 'ts'",
        ),
        ("name: w\nnodes: [{name: a, image: x, entrypoint: [p], limits: {cpu: 0}}]", ": nodes[0].limits.cpu: Input should be"),
        ("name: w\nnodes: [{name: a, image: x, entrypoint: [p], limits: {ram: 1}}]", ": nodes[0].limits.ram: there is no such"),
        ("name: w\nnodes: [{name: a, image: x, entrypoint: [p], parents: [b]}]", ": node a: parents: there is no node 'b'"),
        (
            "name: w\nnodes: [{name: a, image: x, entrypoint: [p], parents: [a]}]",
            ": the nodes depend on each other in a circle: a -> a",
        ),
        ("name: w\nnodes: [{name: a, image: x, entrypoint: [p], type: ts}]", ": nodes[0]: a node of type ts joins others"),
        (f"name: w\nnodes: [{GOOD}, {GOOD}]", ": nodes: these names occur more than once: a"),
        (
            f"name: w\nnodes: [{GOOD}, {{name: b, image: x, entrypoint: [p], type: fs, parents: [a]}}]",
            ": nodes[1]: a node of type fs reads no input",
        ),
        (
            f"name: w\nnodes: [{GOOD}, {{name: b, image: x, entrypoint: [p], parents: [a, a]}}]",
            ": nodes[1].parents: names one parent twice",
        ),
        (
            "name: w\nnodes: [{name: a, image: x, entrypoint: [p], env: {A-B: x}}]",
            ": nodes[0].env.A-B: must be the name of an environment variable",
        ),
    ],
)
def test_a_bad_workflow_is_refused(tmp_path, text, problem):
    found = problems_of(tmp_path / "w.yml", text)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_all_problems_are_told_at_once(tmp_path):
    found = problems_of(tmp_path / "w.yml", "nodes: [{name: a}, {image: x, entrypoint: [p]}]\ncolour: red")
    assert found == [
        ": name: is missing",
        ": nodes[0].image: is missing",
        ": nodes[0].entrypoint: is missing",
        ": nodes[1].name: is missing",
        ": colour: there is no such field",
    ]


def test_a_circle_is_named(tmp_path):
    text = "name: w\nnodes:\n" + "".join(
        f"- {{name: {name}, image: x, entrypoint: [p], parents: [{parent}]}}\n" for name, parent in ("ab", "bc", "cd", "db")
    )
    assert problems_of(tmp_path / "w.yml", text) == [": the nodes depend on each other in a circle: b -> d -> c -> b"]


def test_unreadable_documents_are_named(tmp_path):
    with pytest.raises(Problems, match="No such file"):
        workflow.load(tmp_path / "none.yml")
    (tmp_path / "latin.yml").write_bytes(b"name: \xe4")
    with pytest.raises(Problems, match="is not UTF-8"):
        workflow.load(tmp_path / "latin.yml")


@pytest.mark.parametrize("name", ["dicom.yml", "covidnet.yml"])
def test_the_workflows_of_the_project_are_good(name):
    assert workflow.load(REPOSITORY / "workflows" / name).nodes


def test_each_node_finds_its_resource(tmp_path):
    path = tmp_path / "w.yml"
    path.write_text(f"name: w\nnodes: [{GOOD}, {{name: b, image: x, entrypoint: [p], resource: far}}]")
    plan = workflow.load(path)
    assert workflow.assigned(plan, ["far"], path=path) == {"a": "far", "b": "far"}
    with pytest.raises(Problems) as caught:
        workflow.assigned(plan, ["near", "nearer"], path=path)
    assert caught.value.lines == (
        f"{path}: node a: names no resource; registered are near, nearer",
        f"{path}: node b: resource 'far' is not registered; registered are near, nearer",
    )


RESOURCE = "resources:\n- {name: here, url: 'http://127.0.0.1:5005/api/v1/', user: pfcon, %s}\n"


def resource_problem(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o644)
    with pytest.raises(Problems) as caught:
        resources.load(path, environ={})
    (line,) = caught.value.lines
    return line.removeprefix(str(path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("resources: []", ": resources: must not be empty"),
        (RESOURCE % "password_env: A, password_file: b", ": resources[0]: needs exactly one of password_env"),
        (RESOURCE % "parallel: 1", ": resources[0]: needs exactly one of password_env, password_file and password; found none"),
        (RESOURCE % "password_env: NOT_THERE", ": resource here: password_env: the environment has no NOT_THERE"),
        (RESOURCE % "password_file: none", ": resource here: password_file: "),
        (RESOURCE % "password: secret12", ": resource here: password: "),
        (RESOURCE.replace("http:", "ftp:") % "password_env: A", ": resources[0].url: must begin with http://"),
        (RESOURCE.replace("127", "u:p@127") % "password_env: A", ": resources[0].url: must not hold a user or password"),
        (RESOURCE.replace("/api/v1/", "/") % "password_env: A", ": resources[0].url: must end in /api/v1/"),
        (RESOURCE.replace("5005", "many") % "password_env: A", ": resources[0].url: Port could not be cast"),
    ],
)
def test_a_bad_resources_file_is_refused(tmp_path, text, problem):
    assert resource_problem(tmp_path / "r.yml", text).startswith(problem)


def test_a_file_that_others_may_read_keeps_no_secret(tmp_path):
    path, secret = tmp_path / "r.yml", tmp_path / "secret"
    secret.write_text("secret12\n")
    for text, holder in ((RESOURCE % "password: secret12", path), (RESOURCE % "password_file: secret", secret)):
        path.write_text(text)
        for mode in (0o640, 0o604):
            path.chmod(0o600)
            secret.chmod(0o600)
            holder.chmod(mode)
            with pytest.raises(Problems, match="others may read it; chmod 600") as caught:
                resources.load(path, environ={})
            assert "secret12" not in str(caught.value)
        holder.chmod(0o600)
        assert resources.load(path, environ={})["here"].password.get_secret_value() == "secret12"


def test_a_password_from_the_environment_is_never_shown(tmp_path):
    path = tmp_path / "r.yml"
    path.write_text(RESOURCE % "password_env: PASSWORD")
    resource = resources.load(path, environ={"PASSWORD": "secret12"})["here"]
    assert resource.password.get_secret_value() == "secret12"
    assert "secret12" not in repr(resource) + repr(resource.entry) + repr(vars(resource))


def test_the_default_place_of_the_resources_file(tmp_path):
    assert resources.default_path({"PFMOC_RESOURCES": "/x/y.yml"}) == Path("/x/y.yml")
    assert resources.default_path({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "pfmoc/resources.yml"
    assert resources.default_path({}) == Path.home() / ".config/pfmoc/resources.yml"
