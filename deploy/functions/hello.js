// A function for Node.js: main takes the argument as an object and returns one, or a promise of one.
function main(args) {
  const name = args.name || "stranger";
  console.log("greeting", name);
  return { greeting: "Hello " + name + ", from Node" };
}
