import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.ids import DidKey
from fleet_market.protocol.did import decode_did, encode_did


@given(st.binary(min_size=32, max_size=32))
def test_a_key_has_one_name_and_a_name_one_key(key):
    assert decode_did(encode_did(key)) == key


def test_a_published_example_is_read():
    """The Ed25519 example of the did:key specification (W3C CCG, test vector; key in RFC 8032 form)."""
    name = DidKey("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
    assert decode_did(name).hex() == "2e6fcce36701dc791488e0d0b1745cc1e33a4c1c9fcc41c63bd343dbbe0970e6"
    assert encode_did(decode_did(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2do0",
        "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc",
        "did:web:example.org",
        "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
        "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2do\u041a",
    ],
)
def test_what_names_no_ed25519_key_is_refused(text):
    with pytest.raises(ValueError, match="must be"):
        DidKey(text)


def test_a_key_of_another_length_has_no_name():
    with pytest.raises(ValueError, match="must have 32 bytes, was 31"):
        encode_did(bytes(31))
