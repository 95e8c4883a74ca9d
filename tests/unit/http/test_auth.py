import base64
import hashlib
import hmac
import json

import jwt
import pytest

from pfmoc.auth import TOKEN_LIFE_S, Logins, Tokens
from pfmoc.http import Refusal
from pfmoc.settings import Settings

PASSWORD = "pfcon1234"
KEY = "a signing key of more than thirty-two bytes"
SETTINGS = Settings.model_validate({"SECRET_KEY": KEY, "PFCON_USER": "pfcon", "PFCON_PASSWORD": PASSWORD})
NOW = 1_800_000_000.0


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tokens(clock):
    return Tokens(SETTINGS, now=clock)


def refused(tokens, header):
    with pytest.raises(Refusal) as caught:
        tokens.verify(header)
    assert caught.value.status == 401
    assert len(caught.value.cause) < 30  # the name of an error: the token itself is not logged
    return caught.value.message


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header, claims, key=KEY):
    signing = b64(json.dumps(header).encode()) + "." + b64(json.dumps(claims).encode())
    return signing + "." + b64(hmac.new(key.encode(), signing.encode(), hashlib.sha256).digest())


def test_a_token_is_upstreams_and_short_enough_for_cube(tokens):
    token = tokens.issue("pfcon")
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(token, KEY, algorithms=["HS256"], options={"verify_exp": False})
    assert claims == {"pfcon_user": "pfcon", "exp": int(NOW) + 48 * 3600}
    assert len(token) == 133
    tokens.verify(f"Bearer {token}")


def test_a_token_survives_a_restart_and_lives_48_hours_to_the_second(tokens, clock):
    header = f"Bearer {tokens.issue('pfcon')}"
    again = Tokens(SETTINGS, now=clock)
    clock.now = NOW + TOKEN_LIFE_S - 1
    tokens.verify(header)
    again.verify(header)
    clock.now = NOW + TOKEN_LIFE_S
    assert refused(tokens, header) == "Expired authorization token."  # one that was remembered
    assert refused(Tokens(SETTINGS, now=clock), header) == "Expired authorization token."


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "Missing authorization header."),
        ("", "Missing authorization header."),
        ("bearer x", "Invalid authorization header."),
        ("Basic dTpw", "Invalid authorization header."),
        ("Bearer", "Invalid authorization header."),
        ("Bearer ", "Invalid authorization token."),
        ("Bearer x", "Invalid authorization token."),
        ("Bearer a.b.c", "Invalid authorization token."),
        ("Bearer " + "e" * 1_000_000, "Invalid authorization token."),
        ("Bearer \udcff", "Invalid authorization token."),
    ],
)
def test_headers_that_are_refused(tokens, header, message):
    assert refused(tokens, header) == message


GOOD = {"pfcon_user": "pfcon", "exp": int(NOW) + 60}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(b64(b'{"alg":"none","typ":"JWT"}') + "." + b64(json.dumps(GOOD).encode()) + ".", id="alg none"),
        pytest.param(signed({"alg": "RS256", "typ": "JWT"}, GOOD), id="RS256 signed with the HMAC key"),
        pytest.param(signed({"alg": "HS512", "typ": "JWT"}, GOOD), id="another HMAC"),
        pytest.param(signed({"alg": "HS256", "typ": "JWT"}, {"pfcon_user": "pfcon"}), id="no exp"),
        pytest.param(signed({"alg": "HS256", "typ": "JWT"}, {"exp": "soon"}), id="exp is no number"),
        pytest.param(signed({"alg": "HS256", "typ": "JWT"}, {"exp": 1e400}), id="exp is infinite"),
        pytest.param(signed({"alg": "HS256", "typ": "JWT"}, {"exp": None}), id="exp is null"),
        pytest.param(signed({"alg": "HS256", "typ": "JWT"}, GOOD, key="another key"), id="wrong key"),
        pytest.param(signed({"alg": "HS256", "typ": "JWT"}, GOOD | {"pad": "x" * 100_000}), id="huge"),
        pytest.param(signed({"alg": "HS256", "typ": "JWT"}, GOOD)[:-2], id="cut short"),
    ],
)
def test_forged_tokens_get_one_answer(tokens, token):
    assert refused(tokens, f"Bearer {token}") == "Invalid authorization token."


def test_a_short_key_signs_as_any_other_implementation_would():
    short = SETTINGS.model_validate({"SECRET_KEY": "short", "PFCON_USER": "u", "PFCON_PASSWORD": "p"})
    Tokens(short, now=Clock()).verify("Bearer " + signed({"alg": "HS256", "typ": "JWT"}, GOOD, key="short"))


@pytest.fixture
def failures():
    return []


@pytest.fixture
def logins(tokens, failures):
    return Logins(SETTINGS, tokens, failed=failures.append, clock=Clock(0.0))


def login(logins, user="pfcon", password=PASSWORD, address="10.0.0.1"):
    try:
        return logins.login(user, password, address=address)
    except Refusal as refusal:
        return refusal


def test_a_wrong_pair_is_a_400_and_says_nothing_of_which_half(logins):
    for user, password in (("pfcon", "x"), ("x", "pfcon1234"), ("", ""), ("p" * 1_000_000, "\ud800")):
        refusal = login(logins, user, password)
        assert (refusal.status, refusal.message) == (400, "Unable to log in with provided credentials.")


def test_guessing_from_one_address_is_slowed_down(logins, failures):
    statuses = [login(logins, password=str(number)).status for number in range(15)]
    assert statuses == [400] * 10 + [429] * 5
    refusal = login(logins)
    assert refusal.status == 429
    assert refusal.headers["Retry-After"] == "6"
    assert failures.count("credentials") == 10
    assert isinstance(login(logins, address="10.0.0.2"), str)
    logins._by_address._clock.now = 6.0
    assert isinstance(login(logins), str)


def test_guessing_from_many_addresses_is_slowed_down_but_never_locks_out_who_is_known(logins):
    assert isinstance(login(logins, address="cube"), str)
    statuses = [login(logins, password="x", address=f"bot-{number}").status for number in range(40)]
    assert statuses == [400] * 30 + [429] * 10
    assert login(logins, address="newcomer").status == 429
    assert isinstance(login(logins, address="cube"), str)
    assert login(logins, user="other", address="newcomer").status == 400


def test_successful_logins_are_not_slowed_down(logins):
    assert all(isinstance(login(logins), str) for _ in range(1000))


def test_what_is_remembered_is_bounded(logins):
    for number in range(20_000):
        login(logins, user=str(number), password="x", address=str(number))
    assert len(logins._by_address._buckets) <= 10_000
    assert len(logins._by_user._buckets) <= 10_000
