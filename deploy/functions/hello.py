"""A function in Python: main takes the argument as a dictionary and returns one."""


def main(args):
    name = args.get("name", "stranger")
    print("greeting", name)
    return {"greeting": "Hello " + name + ", from Python"}
