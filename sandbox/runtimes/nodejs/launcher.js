// Loads one Node.js function and serves it: the action loop of OpenWhisk.
//
// node launcher.js reads its letter, one JSON line, from standard input; loads the function; says so on
// descriptor 3; then runs the function once for each further line.
'use strict';

const fs = require('fs');
const path = require('path');
const vm = require('vm');
const { createRequire } = require('module');
const { pathToFileURL } = require('url');

const ANSWER = 3;

function say(text) {
  const line = Buffer.from(text + '\n');
  let sent = 0;
  while (sent < line.length) {
    sent += fs.writeSync(ANSWER, line, sent);
  }
}

// What no JSON object starts with: the function broke, and this is how.
function broke(message) {
  say('!' + JSON.stringify(String(message)));
}

class CannotLoad extends Error {}

function pick(name, ...places) {
  for (const place of places) {
    if (place && typeof place[name] === 'function') {
      return place[name].bind(place);
    }
  }
  throw new CannotLoad(`The code has no function '${name}'. Define it, export it, or name another entry point.`);
}

async function load(letter) {
  const { folder, main, archive, env } = letter;
  Object.assign(process.env, env);
  if (archive) {
    process.chdir(folder);
    let entry;
    const card = path.join(folder, 'package.json');
    if (fs.existsSync(card)) {
      try {
        entry = path.join(folder, JSON.parse(fs.readFileSync(card, 'utf8')).main || 'index.js');
      } catch (error) {
        throw new CannotLoad(`package.json cannot be read: ${error.message}`);
      }
    } else if (fs.existsSync(path.join(folder, 'index.js'))) {
      entry = path.join(folder, 'index.js');
    } else {
      throw new CannotLoad('The zip has neither package.json nor index.js at its top.');
    }
    let loaded;
    try {
      loaded = require(entry);
    } catch (error) {
      if (!error || error.code !== 'ERR_REQUIRE_ESM') {
        throw error;
      }
      loaded = await import(pathToFileURL(entry).href);
    }
    return pick(main, loaded, loaded && loaded.default);
  }
  if (!/^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(main)) {
    throw new CannotLoad(`'${main}' cannot be the name of a function.`);
  }
  const file = path.join(folder, 'index.js');
  const source = fs.readFileSync(file, 'utf8').replace(/^#!.*/, '');
  const ending = `\n;return typeof ${main} === 'function' ? ${main} : undefined`;
  const wrapper = `(function (exports, require, module, __filename, __dirname) { ${source}${ending}})`;
  const module_ = { exports: {} };
  let compiled;
  try {
    compiled = vm.runInThisContext(wrapper, {
      filename: file,
      importModuleDynamically: vm.constants && vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    });
  } catch (error) {
    if (!(error instanceof SyntaxError) || !/\b(import|export)\b/.test(error.message)) {
      throw error;
    }
    // An ECMAScript module in a file whose name does not say so.
    const loaded = await import('data:text/javascript;base64,' + Buffer.from(source).toString('base64'));
    return pick(main, loaded, loaded.default);
  }
  const found = compiled.call(module_.exports, module_.exports, createRequire(file), module_, file, folder);
  return found || pick(main, module_.exports, globalThis);
}

// An Error has nothing that JSON would show.
function shown(error) {
  if (error instanceof Error) {
    return { name: error.name, message: error.message, stack: error.stack, ...error };
  }
  return error === undefined || error === null ? {} : error;
}

let known = [];

async function run(main, line) {
  let order;
  try {
    order = JSON.parse(line);
  } catch (error) {
    return broke(`The argument is not JSON: ${error.message}`);
  }
  const names = [];
  for (const name of Object.keys(order)) {
    if (name !== 'value') {
      process.env['__OW_' + name.toUpperCase()] = order[name];
      names.push(name);
    }
  }
  for (const name of known) {
    if (!names.includes(name)) {
      delete process.env['__OW_' + name.toUpperCase()];
    }
  }
  known = names;
  let result;
  try {
    result = main(order.value === undefined ? {} : order.value);
  } catch (error) {
    console.error(error);
    return broke(`An error has occurred: ${error}`);
  }
  try {
    result = await result;
  } catch (error) {
    result = { error: shown(error) };
  }
  if (result === undefined) {
    result = {};
  }
  if (typeof result !== 'object' || result === null) {
    return broke('The action did not return a dictionary or array.');
  }
  let text;
  try {
    text = JSON.stringify(result);
  } catch (error) {
    return broke(`The action did not return a dictionary or array that is JSON: ${error.message}`);
  }
  say(text === undefined ? '{}' : text);
}

// Lines are served one after the other; the host sends the next when it has the answer.
function serve() {
  let main;
  let pieces = [];
  let turn = Promise.resolve();
  const take = async (line) => {
    if (main) {
      return run(main, line);
    }
    try {
      main = await load(JSON.parse(line));
    } catch (error) {
      if (error instanceof CannotLoad) {
        broke(error.message);
      } else {
        console.error(error);
        broke(`The code could not be loaded: ${error}`);
      }
      process.exit(1);
    }
    say('{"ok":true}');
  };
  process.stdin.on('data', (chunk) => {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      pieces.push(chunk.subarray(start, end));
      const line = (pieces.length === 1 ? pieces[0] : Buffer.concat(pieces)).toString('utf8');
      pieces = [];
      start = end + 1;
      turn = turn.then(() => take(line));
    }
    if (start < chunk.length) {
      pieces.push(chunk.subarray(start));
    }
  });
  process.stdin.on('end', () => process.exit(0));
}

serve();
