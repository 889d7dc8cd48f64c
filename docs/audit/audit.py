#!/usr/bin/env python3
"""Check the books of a fleet market from their export alone: ``audit.py [ARCHIVE...] books.jsonl [--key PUBLIC_KEY]``.

Needs Python 3.8 or newer and nothing else, least of all the program whose books it checks: read it before you believe it.
The file comes from ``fleet-market ledger export books.jsonl``, a JSON object a line. Where the market has archived its old
transfers, name the archives first, oldest first; archives alone can be checked too. Without them, what the accounts held
before the first transfer is taken from the export, and said. This script

1. follows the hash chain: row n carries SHA-256(hash of row n-1 + canonical form of row n), hexadecimal, where the
   canonical form is the JSON array [seq, timestamp_ns, id, kind, debit, credit, amount_uc, pending, reference,
   expires_ns] in ASCII without spaces, and row 0 is 64 zeros;
2. makes every transfer again, refuses what no ledger may do (overdraw, pay out of a hold twice or after its end, more than
   was held), and after each row compares the supply (issued less burned) with what circulates;
3. compares the resulting balances, sums, supply and escrow with those that the market publishes;
4. compares the signed daily heads with the chain, and, if the package ``cryptography`` is there, checks their signatures.

Exit code 0: sound; 1: not, every fault is a line; 2: the file cannot be read.
"""

import argparse
import gzip
import hashlib
import json
import sys

FIELDS = ("seq", "timestamp_ns", "id", "kind", "debit", "credit", "amount_uc", "pending", "reference", "expires_ns")
SUMS = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")
MAX_FAULTS = 50


class Books:
    """Balances as they follow from the transfers seen so far."""

    def __init__(self):
        self.sums, self.holds, self.ended, self.ids = {}, {}, set(), set()
        self.rows, self.last_hash, self.last_ns, self.hashes = 0, "0" * 64, -1, {}
        self.issued = self.burned = self.circulating = 0
        self.pushed = False
        self.faults, self.notes = [], []
        self.opened = {}

    def fault(self, text):
        self.faults.append(text)

    def transfer(self, row):
        if row["seq"] <= self.rows and self.hashes.get(row["seq"]) == row["hash"]:
            return  # in two files
        self.rows += 1
        name = f"row {self.rows}"
        canonical = json.dumps([row[f] for f in FIELDS], separators=(",", ":"), ensure_ascii=True)
        if row["seq"] != self.rows or hashlib.sha256((self.last_hash + canonical).encode()).hexdigest() != row["hash"]:
            self.fault(f"{name} does not follow from those before it")
        if row["timestamp_ns"] <= self.last_ns:
            self.fault(f"{name} is not later than the row before it")
        if row["id"] in self.ids:
            self.fault(f"{name} makes transfer {row['id']} a second time")
        self.pushed = row["timestamp_ns"] == self.last_ns + 1  # then it may have been decided a little earlier
        self.last_hash, self.last_ns = row["hash"], row["timestamp_ns"]
        self.hashes[row["seq"]] = row["hash"]
        self.ids.add(row["id"])
        self.move(name, row)

    def open(self, row):
        """Begin behind a transfer that was not seen, or go on behind the last one."""
        if self.rows == 0 and row["transfers"]:
            self.rows, self.last_hash, self.last_ns = row["transfers"], row["hash"], row["timestamp_ns"]
            self.hashes[self.rows] = self.last_hash
            self.opened = None
            self.notes.append(f"rows 1 to {self.rows} are archived: what was there then is taken from the market's word")
        elif self.hashes.get(row["transfers"], "0" * 64) != row["hash"]:
            self.fault(f"the books go on behind another row {row['transfers']} than that of the archives")
        elif row["transfers"] == self.rows:
            self.opened = {account: list(sums) for account, sums in self.sums.items()}

    def open_account(self, row):
        sums = [row[name] for name in SUMS]
        if self.opened is None:
            self.add("the opening", row["id"], sums)
        elif self.opened and self.opened.get(row["id"], [0, 0, 0, 0]) != sums:
            self.fault(f"{row['id']} is said to have held {sums}, its archived transfers say {self.opened.get(row['id'])}")

    def open_hold(self, row):
        if self.opened is None:
            self.holds[row["id"]] = row
            self.ids.add(row["id"])

    def move(self, name, row):
        kind, amount, debit, credit = row["kind"], row["amount_uc"], row["debit"], row["credit"]
        if type(amount) is not int or amount <= 0 or debit == credit:
            self.fault(f"{name}: amount {amount!r} from {debit} to {credit}")
            return
        held = self.end_of_hold(name, row) if kind in ("capture", "void", "expire") else 0
        posted = amount if kind in ("post", "capture") else 0
        pending = {"post": 0, "hold": amount}.get(kind, -held)
        if kind == "hold":
            self.holds[row["id"]] = row
        self.add(name, debit, (posted, 0, pending, 0))
        self.add(name, credit, (0, posted, 0, pending))
        if self.issued - self.burned != self.circulating:
            self.fault(f"{name}: {self.issued - self.burned} uc are issued and not burned, {self.circulating} circulate")

    def end_of_hold(self, name, row):
        hold = self.holds.get(row["pending"])
        if hold is None or row["pending"] in self.ended or (hold["debit"], hold["credit"]) != (row["debit"], row["credit"]):
            self.fault(f"{name} ends {row['pending']}, which is no open hold between these accounts")
            return 0
        self.ended.add(row["pending"])
        over = hold["expires_ns"] is not None and row["timestamp_ns"] >= hold["expires_ns"]
        if row["kind"] == "capture" and over and not self.pushed:
            self.fault(f"{name} pays out of a hold after its end")
        if row["amount_uc"] > hold["amount_uc"]:
            self.fault(f"{name} pays {row['amount_uc']} out of a hold of {hold['amount_uc']}")
        return hold["amount_uc"]

    def add(self, name, account, changes):
        sums = self.sums.setdefault(account, [0, 0, 0, 0])
        for index, change in enumerate(changes):
            sums[index] += change
        kind, moved = account.partition(":")[0], changes[1] - changes[0]
        if kind == "world":
            self.issued -= moved
        elif kind == "sink":
            self.burned += moved
        else:
            self.circulating += moved
        if kind != "world" and sums[0] + sums[2] > sums[1]:
            self.fault(f"{name} overdraws {account}")
        if min(sums) < 0 or (kind == "world" and sums[1] + sums[3]) or (kind == "sink" and sums[0] + sums[2]):
            self.fault(f"{name} does to {account} what no transfer may")

    def published(self):
        """Return what the market must publish."""
        debits, credits_ = (sum(s[i] for s in self.sums.values()) for i in (0, 1))
        escrow = sum(s[1] - s[0] + s[3] for a, s in self.sums.items() if a.startswith("escrow:"))
        return {
            "transfers": self.rows, "journal_hash": self.last_hash, "sum_debits_uc": debits, "sum_credits_uc": credits_,
            "issued_uc": self.issued, "burned_uc": self.burned, "supply_uc": self.issued - self.burned,
            "circulating_uc": self.circulating, "escrow_left_uc": escrow,
        }  # fmt: skip


def archive(books, head, lines, heads):
    """Follow an archive, which begins where the one before it ends."""
    if head["journal_seq"] > books.rows:
        raise ValueError(f"it begins after row {head['journal_seq']}: name the archives before it first")
    if head["journal_seq"] and books.hashes.get(head["journal_seq"]) != head["journal_hash"]:
        books.fault(f"an archive goes on behind another row {head['journal_seq']} than that of the archive before it")
    end = None
    for line in lines:
        row = json.loads(line)
        if row["row"] == "transfer":
            books.transfer(row)
        elif row["row"] == "head":
            heads.append(row)
        elif row["row"] == "end":
            end = row
    if end is None or books.hashes.get(end["journal_seq"], "0" * 64) != end["journal_hash"]:
        books.fault("an archive does not end with the row that it says")


def check(files, key=None):
    """Return the books and how many heads there are, after following all of the files (iterators over lines)."""
    books, published, stated, heads, only_archives = Books(), None, {}, [], True
    for lines in files:
        head = json.loads(next(lines, "{}"))
        kind = (head.get("format"), head.get("version"))
        if kind == ("fleet-market archive", 1) and only_archives:
            archive(books, head, lines, heads)
            continue
        if kind not in (("fleet-market books", 1), ("fleet-market books", 2)) or not only_archives:
            raise ValueError("this is no export of a fleet market's books, version 1 or 2, with its archives before it")
        only_archives = False
        for line in lines:
            row = json.loads(line)
            if row["row"] == "transfer":
                books.transfer(row)
            elif row["row"] == "opening":
                books.open(row)
            elif row["row"] == "opened":
                books.open_account(row)
            elif row["row"] == "carried":
                books.open_hold(row)
            elif row["row"] == "account":
                stated[row["id"]] = [row[name] for name in SUMS]
            elif row["row"] == "head":
                heads.append(row)
            else:
                published = row
    if not only_archives:
        compare(books, stated, published)
    seen = set()
    for row in heads:
        if row["day"] not in seen:
            check_head(books, row, key)
        seen.add(row["day"])
    return books, len(seen)


def compare(books, stated, published):
    """Compare what follows from the transfers with what the market says."""
    for account in sorted(stated.keys() | books.sums.keys()):
        ours, theirs = books.sums.get(account, [0, 0, 0, 0]), stated.get(account)
        if ours != theirs:
            books.fault(f"{account} holds {theirs}, its transfers say {ours}")
    for name, ours in books.published().items():
        theirs = None if published is None else published.get(name)
        if ours != theirs:
            books.fault(f"published {name} is {theirs}, its transfers say {ours}")


def check_head(books, row, key):
    if books.hashes.get(row["seq"]) != row["hash"] and row["seq"] >= min(books.hashes, default=0):
        books.fault(f"the head of day {row['day']} does not belong to this journal")
    if key is not None and row["key_id"] != key:
        books.fault(f"the head of day {row['day']} is signed by another key")
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        print("note: signatures are not checked, the package cryptography is not installed", file=sys.stderr)
        return
    content = json.dumps(["fleet-market ledger head 1", row["day"], row["seq"], row["hash"]], separators=(",", ":"))
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(row["key_id"]))
        public.verify(bytes.fromhex(row["signature"]), content.encode())
    except (InvalidSignature, ValueError):
        books.fault(f"the head of day {row['day']} carries no valid signature")


def lines_of(path):
    """Yield the lines of a file, compressed or not."""
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt", encoding="utf-8") if compressed else open(path, encoding="utf-8") as file:
        yield from file


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("books", nargs="+", help="archives, oldest first, and a file of `fleet-market ledger export`")
    parser.add_argument("--key", help="the market's public key, hexadecimal")
    options = parser.parse_args()
    try:
        books, heads = check((lines_of(path) for path in options.books), options.key)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        print(f"error: {' '.join(options.books)} cannot be read: {error!r}", file=sys.stderr)
        return 2
    for text in books.notes:
        print(f"note: {text}")
    for text in books.faults[:MAX_FAULTS]:
        print(f"fault: {text}")
    told = ", ".join(f"{name} {value}" for name, value in books.published().items())
    print(f"{len(books.sums)} accounts, {heads} signed days, {told}")
    print("NOT SOUND" if books.faults else "sound")
    return 1 if books.faults else 0


if __name__ == "__main__":
    sys.exit(main())
