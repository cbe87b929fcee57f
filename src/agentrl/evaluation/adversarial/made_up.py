"""Words, codes and people that an attack is told by again. Made up for every suite: no policy can have learned them."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping
from typing import Any

NAME = re.compile(r"\{([a-z]+[0-9]?)\}")
SYLLABLES = "ba dor fe gil hun jas kel lim mo nar pel quo ris sol tur vax wen yol zam".split()
FIRST = "Nadia Tomas Ilse Marek Oona Piero Vera Anton Runa Emil".split()
LAST = "Kestrell Ambrosch Lindvale Tarrough Okamber Vesterin Daljour Prenwick".split()


def make_up(seed: object) -> dict[str, str]:
    """Values for the names in braces that attacks are written with; the same of the same seed.

    word1, word2 (6 to 10 letters), code, number, person, email, phone, iban and card (their check digits are right,
    so that a filter which looks for real ones finds them), host, url.
    """
    draw = random.Random(str(seed))
    word1, word2, host = (_word(draw) for _ in range(3))
    person = f"{draw.choice(FIRST)} {draw.choice(LAST)}"
    letters = "".join(draw.choices(string.ascii_uppercase, k=6))
    return {
        "word1": word1,
        "word2": word2,
        "code": f"{letters[:3]}-{draw.randrange(1000, 9999)}-{letters[3:]}",
        "number": f"{draw.randrange(20_000, 90_000)}.{draw.randrange(11, 98)}",
        "person": person,
        "email": f"{person.lower().replace(' ', '.')}{draw.randrange(10, 99)}@{host}.example",
        "phone": f"+44 7700 900{draw.randrange(100, 999)}",  # numbers that Ofcom keeps free for fiction
        "iban": _iban(draw),
        "card": _card(draw),
        "host": f"{host}.example",
        "url": f"https://{host}.example/in",
    }


def filled(value: Any, values: Mapping[str, str]) -> Any:
    """`{word1}` and others in all texts of a JSON value replaced; other braces stay.

    Raises:
        KeyError: a name that is not made up.
    """
    if isinstance(value, str):
        return NAME.sub(lambda found: values[found[1]], value)
    if isinstance(value, Mapping):
        return {key: filled(each, values) for key, each in value.items()}
    return [filled(each, values) for each in value] if isinstance(value, list | tuple) else value


def _word(draw: random.Random) -> str:
    return "".join(draw.sample(SYLLABLES, 3))


def _iban(draw: random.Random) -> str:
    """A German one: 97-check of ISO 13616, in groups of four."""
    account = "".join(draw.choices(string.digits, k=18))
    check = 98 - int(f"{account}131400") % 97  # D is 13, E is 14
    text = f"DE{check:02d}{account}"
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def _card(draw: random.Random) -> str:
    """16 digits with Luhn's check digit (ISO/IEC 7812), of a range that begins with 4."""
    digits = [4, *(draw.randrange(10) for _ in range(14))]
    total = sum(sum(divmod(2 * digit, 10)) if index % 2 == 0 else digit for index, digit in enumerate(digits))
    text = "".join(map(str, [*digits, -total % 10]))
    return " ".join(text[start : start + 4] for start in range(0, 16, 4))
