# Image processing: `images` pictures that arrive one every 60 ms; each is blurred and its outlines are found.
import time

PACE = 0.060
WIDE, HIGH = 128, 96


def picture(number):
    return bytes((x * x + y * 3 + number * 37) & 0xFF for y in range(HIGH) for x in range(WIDE))


def outlines(image):
    found = 0
    for y in range(1, HIGH - 1):
        above, here, below = (image[(y + d) * WIDE:(y + d + 1) * WIDE] for d in (-1, 0, 1))
        for x in range(1, WIDE - 1):
            blurred = (above[x] + here[x - 1] + 4 * here[x] + here[x + 1] + below[x]) >> 3
            found += abs(blurred - here[x]) > 12
    return found


def main(args):
    began, found = time.monotonic(), 0
    for number in range(args["images"]):
        found += outlines(picture(number))
        time.sleep(max(0.0, began + (number + 1) * PACE - time.monotonic()))
    return {"outlines": found}
