# Video: `frames` that arrive 25 to the second; each is compared with the one before and packed.
import hashlib
import time
import zlib

PACE = 0.040
SIZE = 48_000


def frame(number):
    return hashlib.shake_128(number.to_bytes(4, "big")).digest(SIZE)


def main(args):
    began, before, packed = time.monotonic(), bytes(SIZE), 0
    for number in range(args["frames"]):
        now = frame(number)
        changed = (int.from_bytes(now, "big") ^ int.from_bytes(before, "big")).to_bytes(SIZE, "big")
        packed += len(zlib.compress(changed, 6))
        before = now
        time.sleep(max(0.0, began + (number + 1) * PACE - time.monotonic()))
    return {"bytes": packed}
