# Gradient descent: `steps` of it, after each of which it waits for the others, who take 40 ms for theirs.
import time

PACE = 0.040
POINTS = [(x / 150, (x * 37 % 150) / 150, x / 300 + (x * 37 % 150) / 600) for x in range(150)]


def main(args):
    began, weights, rate, error = time.monotonic(), [0.0, 0.0, 0.0], 0.3, 0.0
    for step in range(args["steps"]):
        for _ in range(80):
            gradient, error = [0.0, 0.0, 0.0], 0.0
            for x, y, target in POINTS:
                missed = weights[0] + weights[1] * x + weights[2] * y - target
                error += missed * missed
                gradient[0] += missed
                gradient[1] += missed * x
                gradient[2] += missed * y
            weights = [w - rate * g / len(POINTS) for w, g in zip(weights, gradient)]
        time.sleep(max(0.0, began + (step + 1) * PACE - time.monotonic()))
    return {"missed": error}
