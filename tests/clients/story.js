// What a user of OpenWhisk's own client does with a house of Windfall. Every line it prints is a step that worked.
'use strict'
const assert = require('assert')
const fs = require('fs')
const openwhisk = require('openwhisk')

const given = { apihost: process.env.APIHOST, api_key: process.env.AUTH }
const house = openwhisk(given)

// What the house answers instead of a result: the client turns every status from 400 on into a rejection.
async function refused (status, call) {
  try {
    await call()
  } catch (error) {
    assert.strictEqual(error.statusCode, status, `${error.message}`)
    return error
  }
  assert.fail(`not refused with ${status}`)
}

// The record of a call that nobody waited for.
async function recordOf (id) {
  for (let tries = 0; tries < 300; tries++) {
    try {
      return await house.activations.get(id)
    } catch (error) {
      if (error.statusCode !== 404) throw error
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
  assert.fail(`${id} has no record`)
}

const steps = {
  async 'the namespace is named' () {
    assert.deepStrictEqual(await house.namespaces.list(), ['guest'])
  },
  async 'an action is created once' () {
    const action = "function main(args) { console.log('said'); return { hello: args.name || 'nobody' } }"
    const made = await house.actions.create({ name: 'greet', action, params: { name: 'default' }, annotations: { a: 1 } })
    assert.strictEqual(made.version, '0.0.1')
    assert.ok(made.exec.kind.startsWith('nodejs:'), made.exec.kind)
    assert.match((await refused(409, () => house.actions.create({ name: 'greet', action }))).message, /exist/)
  },
  async 'it is read, with and without its code' () {
    assert.match((await house.actions.get('greet')).exec.code, /hello/)
    assert.strictEqual((await house.actions.get({ name: 'greet', code: false })).exec.code, undefined)
    assert.deepStrictEqual((await house.actions.get('greet')).parameters, [{ key: 'name', value: 'default' }])
  },
  async 'a blocking call answers the record, or only its result' () {
    const record = await house.actions.invoke({ name: 'greet', blocking: true, params: { name: 'You' } })
    assert.strictEqual(record.response.status, 'success')
    assert.deepStrictEqual(record.response.result, { hello: 'You' })
    assert.deepStrictEqual(await house.actions.invoke({ name: 'greet', blocking: true, result: true }), { hello: 'default' })
  },
  async 'a call that does not wait leaves record, logs and result' () {
    const { activationId } = await house.actions.invoke({ name: 'greet', params: { name: 'Later' } })
    const record = await recordOf(activationId)
    assert.strictEqual(record.activationId, activationId)
    assert.strictEqual(record.name, 'greet')
    assert.match(record.logs[0], /stdout: said$/)
    assert.match((await house.activations.logs(activationId)).logs[0], /stdout: said$/)
    const result = await house.activations.result(activationId)
    assert.deepStrictEqual([result.success, result.result], [true, { hello: 'Later' }])
  },
  async 'activations are listed by name, time and number' () {
    const all = await house.activations.list({ name: 'greet', limit: 2 })
    assert.strictEqual(all.length, 2)
    assert.ok(all[0].start >= all[1].start)
    const upto = all[1].start
    for (const one of await house.activations.list({ name: 'greet', upto })) assert.ok(one.start <= upto)
    for (const one of await house.activations.list({ name: 'greet', since: all[0].start })) assert.ok(one.start >= all[0].start)
    await refused(400, () => house.activations.list({ limit: 201 }))
  },
  async 'an update runs at once' () {
    const action = 'const main = () => ({ version: 2 })'
    assert.strictEqual((await house.actions.update({ name: 'greet', action })).version, '0.0.2')
    assert.deepStrictEqual(await house.actions.invoke({ name: 'greet', blocking: true, result: true }), { version: 2 })
  },
  async 'errors of a function come back as they are' () {
    await house.actions.create({ name: 'fails', action: "function main() { return { error: 'no luck' } }" })
    const error = await refused(502, () => house.actions.invoke({ name: 'fails', blocking: true }))
    assert.strictEqual(error.error.response.result.error, 'no luck')
    assert.strictEqual(error.error.response.status, 'application error')
    assert.match(error.message, /no luck/)
    await house.actions.create({ name: 'breaks', action: "function main() { throw new Error('broken') }" })
    const broken = await refused(502, () => house.actions.invoke({ name: 'breaks', blocking: true }))
    assert.strictEqual(broken.error.response.status, 'action developer error')
  },
  async 'limits, annotations and zip files are taken' () {
    const limits = { timeout: 5000, memory: 128, logs: 1 }
    const made = await house.actions.create({ name: 'limited', action: 'function main() { return {} }', limits })
    assert.deepStrictEqual([made.limits.timeout, made.limits.memory, made.limits.logs], [5000, 128, 1])
    await refused(400, () => house.actions.create({ name: 'endless', action: '0', limits: { timeout: 1e9 } }))
    const zip = Buffer.from(process.env.ZIP, 'base64')
    await house.actions.create({ name: 'zipped', action: zip, kind: 'nodejs:default' })
    assert.deepStrictEqual(await house.actions.invoke({ name: 'zipped', blocking: true, result: true }), { zipped: true })
    await house.actions.create({ name: 'python', action: 'def main(args):\n    return {"python": args["n"] + 1}', kind: 'python:default' })
    const answer = await house.actions.invoke({ name: 'python', blocking: true, result: true, params: { n: 41 } })
    assert.deepStrictEqual(answer, { python: 42 })
  },
  async 'an action calls an action with the key of its caller' () {
    const action = `
      const http = require('http')
      function main () {
        const url = process.env.__OW_API_HOST + '/api/v1/namespaces/_/actions/python?blocking=true&result=true'
        const auth = 'Basic ' + Buffer.from(process.env.__OW_API_KEY).toString('base64')
        const headers = { Authorization: auth, 'Content-Type': 'application/json' }
        return new Promise((resolve, reject) => {
          const request = http.request(url, { method: 'POST', headers }, response => {
            let body = ''
            response.on('data', some => { body += some })
            response.on('end', () => resolve(JSON.parse(body)))
          })
          request.on('error', reject)
          request.end(JSON.stringify({ n: 1 }))
        })
      }`
    const body = { exec: { kind: 'nodejs:default', code: action }, annotations: [{ key: 'provide-api-key', value: true }] }
    await house.actions.create({ name: 'caller', action: body })
    assert.deepStrictEqual(await house.actions.invoke({ name: 'caller', blocking: true, result: true }), { python: 2 })
  },
  async 'an action uses this client, with the key of its caller' () {
    const code = fs.readFileSync(process.env.PACKED).toString('base64')
    const annotations = [{ key: 'provide-api-key', value: true }]
    const body = { exec: { kind: 'nodejs:default', code, binary: true }, annotations }
    await house.actions.create({ name: 'inside', action: body })
    assert.deepStrictEqual(await house.actions.invoke({ name: 'inside', blocking: true, result: true }), { python: 8 })
  },
  async 'lists have pages and counts' () {
    const names = (await house.actions.list()).map(action => action.name)
    assert.ok(names.includes('greet') && names.includes('zipped'), `${names}`)
    assert.strictEqual((await house.actions.list({ limit: 1, skip: 1 })).length, 1)
    assert.deepStrictEqual((await house.actions.list({ count: true })).actions, names.length)
  },
  async 'what comes later is empty or says so' () {
    assert.deepStrictEqual(await house.packages.list(), [])
    assert.deepStrictEqual(await house.triggers.list(), [])
    assert.deepStrictEqual(await house.rules.list(), [])
    await refused(404, () => house.triggers.get('none'))
    for (const call of [() => house.packages.create({ name: 'p' }), () => house.triggers.create({ name: 't' })]) {
      const error = await refused(501, call)
      assert.ok(error.message.length > 20, error.message)
    }
  },
  async 'a wrong key opens nothing' () {
    const [user] = given.api_key.split(':')
    for (const api_key of [`${user}:${'x'.repeat(64)}`, 'nobody:nothing']) {
      const stranger = openwhisk({ ...given, api_key })
      assert.match((await refused(401, () => stranger.actions.list())).message, /authentication/)
    }
    await refused(403, () => openwhisk({ ...given, namespace: 'others' }).actions.list())
  },
  async 'what is deleted is gone' () {
    for (const action of await house.actions.list()) await house.actions.delete(action.name)
    await refused(404, () => house.actions.get('greet'))
    await refused(404, () => house.actions.invoke({ name: 'greet', blocking: true }))
    await refused(404, () => house.actions.delete('greet'))
    await refused(404, () => house.activations.get('0'.repeat(32)))
    await refused(400, () => house.activations.get('short'))
  }
}

async function main () {
  let failed = 0
  for (const [step, run] of Object.entries(steps)) {
    try {
      await run()
      console.log(`ok: ${step}`)
    } catch (error) {
      failed++
      console.log(`FAILED: ${step}: ${error.stack}`)
    }
  }
  process.exit(failed ? 1 : 0)
}

main()
