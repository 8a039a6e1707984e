# Merge sort of the `numbers` that come as a list, again and again in another order.
ROUNDS = 6


def merge_sort(values):
    if len(values) < 2:
        return values
    middle = len(values) // 2
    left, right = merge_sort(values[:middle]), merge_sort(values[middle:])
    merged, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            merged.append(left[i])
            i += 1
        else:
            merged.append(right[j])
            j += 1
    return merged + left[i:] + right[j:]


def main(args):
    values = args["numbers"]
    for turn in range(ROUNDS):
        values = merge_sort([(value * 7919 + turn) % 1_000_003 for value in values])
    return {"least": values[0], "most": values[-1]}
