# DNA visualisation: the `sequence` as a line that each base moves up or down, thinned for a drawing, and a hash of it.
import hashlib

MOVES = {"A": (0.5, 1.0), "C": (-0.5, -1.0), "G": (1.0, -0.5), "T": (-1.0, 0.5)}
TURNS = 16


def main(args):
    sequence, drawn = args["sequence"], hashlib.sha256()
    for turn in range(TURNS):
        line, height, side = [], 0.0, 0.0
        for at, base in enumerate(sequence):
            up, across = MOVES[base]
            height, side = height + up, side * 0.99 + across
            if (at + turn) % 4 == 0:
                line.append("%d,%.1f,%.1f" % (at, height, side))
        drawn.update(";".join(line).encode())
    return {"drawing": drawn.hexdigest()}
