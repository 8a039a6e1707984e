"""A function that uses the CPU: counts the primes below a number."""


def main(args):
    below = int(args.get("below", 1_000_000))
    if below > 50_000_000:
        return {"error": "below may be at most 50000000"}
    sieve = bytearray([1]) * max(below, 2)
    sieve[0:2] = b"\0\0"
    for number in range(2, int(below**0.5) + 1):
        if sieve[number]:
            multiples = range(number * number, below, number)
            sieve[number * number : below : number] = bytes(len(multiples))
    return {"below": below, "primes": sum(sieve[:below])}
