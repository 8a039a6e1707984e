# k nearest neighbours: `points` are each given the class of the twelve that are nearest to it.
import heapq

KNOWN = [((n * 7919) % 1009 / 1009, (n * 104729) % 997 / 997, (n * 31) % 101 / 101) for n in range(150)]
NEAREST = 12


def main(args):
    classes = [0, 0, 0]
    for number in range(args["points"]):
        x, y, z = ((number * factor) % 613 / 613 for factor in (17, 29, 43))
        near = heapq.nsmallest(
            NEAREST, range(len(KNOWN)),
            key=lambda n: (KNOWN[n][0] - x) ** 2 + (KNOWN[n][1] - y) ** 2 + (KNOWN[n][2] - z) ** 2,
        )
        votes = [sum(1 for n in near if n % 3 == kind) for kind in range(3)]
        classes[votes.index(max(votes))] += 1
    return {"classes": classes}
