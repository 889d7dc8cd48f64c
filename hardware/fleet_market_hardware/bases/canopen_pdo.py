"""Process data objects of CANopen: what a frame carries, and how a drive is told so by SDO (CiA 301, 7.5.2.35 to 38).

The indices are given outright, not looked up in a dictionary: an EDS need not list what the standard fixes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from canopen.sdo.exceptions import SdoAbortedError, SdoError

from fleet_market_hardware.devices import DeviceError, DeviceSilentError
from fleet_market_hardware.tables import (
    CANOPEN_COB_ID,
    CANOPEN_MAPPING,
    CANOPEN_PDO_NO_RTR,
    CANOPEN_PDO_NOT_VALID,
    CIA_KINDS,
)


@dataclass(frozen=True, slots=True)
class Pdo:
    """One frame.

    Parameters
    ----------
    index : int
        Of its communication parameter; its mapping parameter is 0x200 further on.
    cob_id : int
    transmission : int
        Transmission type: 1 is at every SYNC, 255 is at once.
    objects : tuple of int
        What it carries, in this order; each is in `tables.CIA_KINDS`.
    """

    index: int
    cob_id: int
    transmission: int
    objects: tuple[int, ...]

    def layout(self) -> struct.Struct:
        """Return what packs and unpacks its data."""
        return struct.Struct("<" + "".join(CIA_KINDS[index] for index in self.objects))


def configure(sdo: Any, device: str, node: int, pdo: Pdo) -> None:
    """Have a drive send or take `pdo`, and see that it says so itself.

    Raises
    ------
    DeviceError
        If the drive refuses a value, or tells another one afterwards.
    DeviceSilentError
        If it does not answer.
    """
    mapping = pdo.index + CANOPEN_MAPPING
    entries = [index << 16 | 8 * struct.calcsize("<" + CIA_KINDS[index]) for index in pdo.objects]
    link = _Link(sdo, device, node)
    cob_id = pdo.cob_id | link.get(pdo.index, 1, "<I") & CANOPEN_PDO_NO_RTR
    link.put(pdo.index, 1, "<I", cob_id | CANOPEN_PDO_NOT_VALID)
    link.put(mapping, 0, "<B", 0)
    for number, entry in enumerate(entries, 1):
        link.put(mapping, number, "<I", entry)
    link.put(mapping, 0, "<B", len(entries))
    link.put(pdo.index, 2, "<B", pdo.transmission)
    link.put(pdo.index, 1, "<I", cob_id)
    link.see(mapping, 0, "<B", len(entries))
    for number, entry in enumerate(entries, 1):
        link.see(mapping, number, "<I", entry)
    link.see(pdo.index, 2, "<B", pdo.transmission)
    link.see(pdo.index, 1, "<I", pdo.cob_id, CANOPEN_COB_ID | CANOPEN_PDO_NOT_VALID)


class _Link:
    """SDO with errors that name node, object, value and mend."""

    def __init__(self, sdo: Any, device: str, node: int) -> None:
        self._sdo, self._device, self._node = sdo, device, node

    def get(self, index: int, sub: int, kind: str) -> int:
        data = self._try(index, sub, "nothing", lambda: self._sdo.upload(index, sub))
        if len(data) < struct.calcsize(kind):
            raise self._error(index, sub, data.hex(), "it is shorter than CiA 301 has it: see the drive's manual")
        return int(struct.unpack_from(kind, data)[0])

    def put(self, index: int, sub: int, kind: str, value: int) -> None:
        self._try(index, sub, f"{value:#x}", lambda: self._sdo.download(index, sub, struct.pack(kind, value)))

    def see(self, index: int, sub: int, kind: str, value: int, mask: int = -1) -> None:
        told = self.get(index, sub, kind) & mask
        if told != value:
            raise self._error(index, sub, f"{told:#x}", f"the drive took {value:#x} and tells this: see its manual")

    def _try(self, index: int, sub: int, value: str, call: Any) -> Any:
        try:
            return call()
        except SdoAbortedError as error:
            mend = "the drive refuses it: allow this PDO mapping with its maker's tool, or update its firmware"
            raise self._error(index, sub, value, f"{mend} ({error})") from error
        except SdoError as error:
            raise DeviceSilentError(
                self._device,
                f"node {self._node}: {index:#06x}:{sub:02x}",
                value,
                f"no answer: check wiring and power: {error}",
            ) from error

    def _error(self, index: int, sub: int, value: str, mend: str) -> DeviceError:
        return DeviceError(self._device, f"node {self._node}: {index:#06x}:{sub:02x}", value, mend)
