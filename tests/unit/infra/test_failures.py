"""Texts of the engine, the providers and the clients, and the sentences that they become."""

from __future__ import annotations

import pytest
from fakes.engine import said, urn

from infra.failures import Locked, diagnostics, explained, first_sentence
from infra.stack import Incomplete

TRACEBACK = """Program failed with an unhandled exception:
Traceback (most recent call last):
  File "/x/pulumi-language-python-exec", line 232, in <module>
    loop.run_until_complete(coro)
  File "/x/invoke.py", line 408, in do_rpc
    raise error
Exception: invoke of openstack:identity/getRole:getRole failed: 1 error occurred:
\t* Your openstack_identity_role_v3 query returned no results

"""
NONE = "invoke of openstack:x/get{0}:get{0} failed: 1 error occurred:\n\t* Your query returned no results. Please change your"
LOCK = """error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the lock file.
  file:///state/.pulumi/locks/organization/pfmoc/box/6f1.json: created by ann@mgmt (pid 4711) at 2026-11-21T15:00:00Z
"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("error: get stack: passphrase must be set with PULUMI_CONFIG_PASSPHRASE", "the passphrase does not open"),
        ("error: decrypting: incorrect passphrase", "the passphrase does not open"),
        (
            "no resource plugin 'pulumi-resource-openstack' found in the workspace",
            "the engine has no plugin openstack",
        ),
        ("Could not find plugin for provider 'openstack@5.5.3'", None),
        ("Cloud moc was not found.", "clouds.yaml has no entry 'moc'"),
        ('unable to load: context "moc" does not exist', "the kubeconfig has no context 'moc'"),
        (
            "Invalid kube-config file. Expected object with name moc in /x/kubeconfig/contexts list",
            "the kubeconfig has no context 'moc'",
        ),
        ("Invalid kube-config file. No configuration found.", "there is no usable kubeconfig"),
        (
            'Post "http://127.0.0.1:5000/v3/auth/tokens": dial tcp 127.0.0.1:5000: connect: connection refused',
            "nothing listens at http://127.0.0.1:5000/v3/auth/tokens",
        ),
        (
            "HTTPSConnectionPool(host='127.0.0.1', port=6443): Max retries exceeded: [Errno 111] Connection refused",
            "nothing listens at https://127.0.0.1:6443",
        ),
        ("dial tcp: lookup keystone.invalid: no such host", "the name in keystone.invalid is not known"),
        ('Get "https://k/v3": dial tcp 10.0.0.1:443: i/o timeout', "https://k/v3 does not answer"),
        ('Get "https://k/v3": x509: certificate signed by unknown authority', "the certificate of https://k/v3 is not trusted"),
        ("The request you have made requires authentication. (HTTP 401)", "the cloud does not take these credentials"),
        ("(401) Unauthorized {}", "the cloud does not take these credentials"),
        ("error: You must be logged in to the server (Unauthorized)", "the cloud does not take these credentials"),
        (
            'namespaces is forbidden: User "ann" cannot create resource "namespaces" in API group "" at the cluster scope',
            "the user ann may not create namespaces in the cluster",
        ),
        (
            'Preview failed: namespaces "kube-system" is forbidden: User "ann" cannot get resource "namespaces" in API group ""',
            "the user ann may not get namespaces",
        ),
        (
            "configured Kubernetes cluster is unreachable: the server has asked for the client to provide credentials",
            "the cloud does not take these credentials",
        ),
        (
            "You are not authorized to perform the requested action: identity:create_project. (HTTP 403)",
            "the cloud does not let this user do that (identity:create_project)",
        ),
        ("Container HEAD failed: http://s/v1/AUTH_x 403 Forbidden HTTP 403", "the cloud does not let this user do that"),
        ("error: something that nobody has seen", "something that nobody has seen"),
        (
            'got 409 instead: {"error":{"code":409,"message":"Conflict occurred attempting to store project - it is not'
            ' permitted to have two projects with either the same name or same id: name is chris, project id 1c."}}',
            "Keystone has a project of the name chris already",
        ),
        (
            "Conflict occurred attempting to store user - Duplicate entry found with name ann at domain ID default.",
            "Keystone has a user of the name ann already",
        ),
        ("\n code: -9\n stdout: Updating (small):\n\n stderr: ", "the engine was killed"),
        (TRACEBACK, "what was looked up is not there: Role"),
        (
            f"the federated user 'ann@campus' cannot be looked up: {NONE.format('User')}",
            "Keystone knows no federated user 'ann@campus'",
        ),
        (f"the Keystone user 'ann' cannot be looked up: {NONE.format('User')}", "Keystone has no user 'ann' who may sign in"),
        (f"the Keystone role 'boss' cannot be looked up: {NONE.format('Role')}", "there is no Keystone role 'boss'"),
        (f"the external network 'out' cannot be looked up: {NONE.format('Network')}", "there is no external network 'out'"),
        (
            "the Keystone user 'ann' cannot be looked up: Post \"http://127.0.0.1:9/v3\": connect: connection refused",
            "nothing listens at http://127.0.0.1:9/v3",
        ),
        ("creating: 1 error occurred:\n\t* Unable to find image with name rhel-10\n\n", "OpenStack has no image 'rhel-10'"),
        (
            "deleting urn:x: 1 error occurred:\n\t* error deleting objectstorage_container_v1 'data': Expected HTTP response code"
            " [202 204] when accessing [DELETE http://127.0.0.1:8080/v1/AUTH_1c/data], but got 409 instead: <h1>Conflict</h1>",
            "Swift does not delete the container data: there are objects in it",
        ),
        ("2 errors occurred:\n\t* one thing\n\t* another\n\n", "one thing"),
        ("creating x: 1 error occurred:\n\t* one thing\n\n", "creating x: one thing"),
        ("", "the engine failed and said nothing"),
    ],
)
def test_what_a_text_means(text, cause):
    found = explained(text)
    assert found.fix
    if cause:
        assert found.cause.startswith(cause)
    assert "Traceback" not in str(found)
    assert "\n" not in str(found)


def test_who_is_not_known_yet_has_to_sign_in_once():
    assert "sign in once" in explained(f"the federated user 'a' cannot be looked up: {NONE.format('User')}").fix
    assert "make box" in explained("no resource plugin 'pulumi-resource-openstack' found").fix
    assert "swift list data" in explained("[DELETE http://s/v1/AUTH_1c/data], but got 409 instead").fix


def test_a_lock_tells_who_holds_it():
    found = explained(LOCK)
    assert isinstance(found, Locked)
    (holder,) = found.holders
    assert (holder.user, holder.host, holder.pid) == ("ann", "mgmt", 4711)
    assert found.cause == "the state is locked by ann@mgmt (process 4711, since 2026-11-21T15:00:00Z)"


def test_the_first_error_is_told_with_its_resource():
    about = urn("openstack:identity/project:Project", "chris")
    events = [
        said("error", "update failed"),
        said("error", "creating: You are not authorized to perform the requested action: identity:create_project.", about),
        said("error", "another", about),
    ]
    found = Incomplete.of(events, "code: 255")
    assert found.cause == "Project chris: the cloud does not let this user do that (identity:create_project) (and 1 more errors)"


def test_without_events_the_engines_text_is_told():
    assert Incomplete.of([], "\n code: 255\n stdout: \n stderr: error: no such thing").cause == "no such thing"
    assert first_sentence("code: 1\nerror: no such thing") == "no such thing"
    assert isinstance(Incomplete.of([], LOCK), Locked)


def test_a_policy_is_told_as_a_sentence():
    event = {
        "policyEvent": {
            "enforcementLevel": "mandatory",
            "policyName": "no-world-open-ssh",
            "message": "opens SSH to the whole world\n",
            "resourceUrn": urn("openstack:networking/secGroupRule:SecGroupRule", "chris-web-0"),
        }
    }
    found = Incomplete.of([event, said("error", "preview failed")], "")
    assert "chris-web-0 opens SSH to the whole world" in found.cause


def test_of_a_cluster_out_of_reach_the_reason_is_told():
    about = urn("kubernetes:core/v1:Namespace", "chris")
    events = [
        said("warning", 'configured Kubernetes cluster is unreachable: context "x" does not exist', about),
        said("error", "Preview failed: failed to read resource state due to unreachable cluster.", about),
        said("error", "failed to run remediation: context canceled"),
    ]
    ((_, text),) = diagnostics(events)
    assert explained(text).cause == "the kubeconfig has no context 'x'"
