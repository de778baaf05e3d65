// Runs http-cache-tests, unmodified, against a proxy and compares the result with what docs/conformance.md expects.
//
//   node run.mjs --suite DIR --weir BINARY [--report FILE]     starts the suite's origin and Weir in front of it
//   node run.mjs --suite DIR --proxy URL --origin-port PORT    uses a proxy that is already running
//
// Exit code 0: every required test passes but for the exceptions that docs/conformance.md names, none of these
// exceptions passes after all, and the number of optimal tests passed is at least the floor the page gives.

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, writeFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, dirname } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const START_LIMIT_MS = 20_000
const RUN_LIMIT_MS = 300_000
const here = dirname(fileURLToPath(import.meta.url))
const exceptionsPage = join(here, '../../docs/conformance.md')

const { values: options } = parseArgs({
  options: {
    suite: { type: 'string' },
    weir: { type: 'string' },
    proxy: { type: 'string' },
    'origin-port': { type: 'string', default: '0' },
    report: { type: 'string' }
  }
})

const scratch = mkdtempSync(join(tmpdir(), 'weir-conformance-'))
const children = []

/** Starts a program; resolves with the first match of `ready` in what it prints. */
function start (program, args, env, ready) {
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  let printed = ''
  return new Promise((resolve, reject) => {
    const giveUp = setTimeout(() => reject(new Error(`${program} was not ready in time; it printed:\n${printed}`)), START_LIMIT_MS)
    const look = chunk => {
      printed = (printed + chunk).slice(-20_000)
      const match = ready.exec(printed)
      if (match) {
        clearTimeout(giveUp)
        resolve(match)
      }
    }
    child.stdout.on('data', look)
    child.stderr.on('data', look)
    child.on('exit', code => {
      clearTimeout(giveUp)
      reject(new Error(`${program} ended with ${code}; it printed:\n${printed}`))
    })
  })
}

/** One run of the suite's own command line client; resolves with its results by test id. */
function runSuite (base) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--no-warnings', 'cli.mjs'], {
      cwd: options.suite,
      env: { ...process.env, npm_package_config_id: '', npm_config_id: '', npm_config_base: base },
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: RUN_LIMIT_MS
    })
    let printed = ''
    child.stdout.on('data', chunk => { printed += chunk })
    child.on('exit', code => {
      try {
        resolve(JSON.parse(printed.slice(printed.indexOf('{'))))
      } catch (error) {
        reject(new Error(`the suite ended with ${code} and no result (${error.message}):\n${printed.slice(0, 2000)}`))
      }
    })
  })
}

/** The exceptions of the page: rows that begin with "| `id` |". The floor: "at least N of the optimal". */
function readExceptions () {
  const page = readFileSync(exceptionsPage, 'utf8')
  const exceptions = new Map()
  for (const [, id, reason] of page.matchAll(/^\| `([a-z0-9=-]+)` \|(.*)\|\s*$/gim)) exceptions.set(id, reason.trim())
  const floor = /at least (\d+) of the optimal/.exec(page)
  if (!floor) throw new Error(`${exceptionsPage} gives no floor ("at least N of the optimal tests")`)
  return { exceptions, floor: Number(floor[1]) }
}

async function main () {
  const suites = (await import(pathToFileURL(join(options.suite, 'tests/index.mjs')))).default
  const { exceptions, floor } = readExceptions()

  const [, originPort] = await start(process.execPath, [join(options.suite, 'server/server.mjs')], {
    npm_config_protocol: 'http', npm_config_port: options['origin-port'], npm_config_pidfile: join(scratch, 'origin.pid')
  }, /Listening on \S+:(\d+)\//)

  let base = options.proxy
  if (!base) {
    const config = join(scratch, 'weir.toml')
    writeFileSync(config, `
[server]
listen = ["127.0.0.1:0"]
[admin]
listen = "127.0.0.1:0"
[cache.default]
store_set_cookie = true
[[route]]
origin = "http://127.0.0.1:${originPort}"
`)
    const [, address] = await start(options.weir, ['run', '--config', config], {}, /^listening on (http:\/\/\S+)/m)
    base = address
  }
  base = base.replace(/\/+$/, '')

  let results = await runSuite(base)
  const tests = suites.flatMap(suite => suite.tests.map(test => ({ ...test, suite: suite.name, kind: test.kind ?? 'required' })))
    .filter(test => !test.browser_only)
  const unexpected = () => tests.filter(test => test.kind === 'required' && results[test.id] !== true && !exceptions.has(test.id))

  // The suite waits in real seconds, a hundred tests at a time; a machine that stalls for three of them fails a test
  // that would pass. What fails without being expected is therefore run again, twice at most, and said so.
  for (let round = 2; round <= 3 && unexpected().length > 0; round++) {
    console.log(`not passed yet, running again: ${unexpected().map(test => test.id).join(' ')}`)
    const again = await runSuite(base)
    results = Object.fromEntries(Object.entries(again).map(([id, result]) => [id, result === true || results[id] === true ? true : result]))
  }

  const count = kind => {
    const of = tests.filter(test => test.kind === kind)
    return { passed: of.filter(test => results[test.id] === true).length, of: of.length }
  }
  const required = count('required')
  const optimal = count('optimal')
  const checks = count('check')

  const rows = tests.filter(test => test.kind !== 'check' && results[test.id] !== true)
    .map(test => `| \`${test.id}\` | ${test.kind} | ${test.name.replaceAll('|', '\\|')} | ${JSON.stringify(results[test.id]?.[1] ?? 'not run')} | ${exceptions.has(test.id) ? 'listed' : ''} |`)
  const table = ['| test | kind | question | what happened | docs/conformance.md |', '|---|---|---|---|---|', ...rows].join('\n')
  console.log(table)
  console.log(`\nrequired: ${required.passed} of ${required.of}; optimal: ${optimal.passed} of ${optimal.of}; checks answered yes: ${checks.passed} of ${checks.of}`)
  if (options.report) {
    writeFileSync(options.report, `${table}\n\nrequired ${required.passed}/${required.of}, optimal ${optimal.passed}/${optimal.of}\n`)
    writeFileSync(options.report.replace(/\.md$/, '.json'), JSON.stringify(results, null, 1))
  }

  const faults = [
    ...unexpected().map(test => `required test ${test.id} does not pass and is no exception`),
    ...[...exceptions.keys()].filter(id => results[id] === true).map(id => `${id} is listed as an exception and passes: take it off the list`),
    ...[...exceptions.keys()].filter(id => !tests.some(test => test.id === id)).map(id => `${id} is listed as an exception and does not exist`)
  ]
  if (optimal.passed < floor) faults.push(`${optimal.passed} optimal tests pass, ${floor} are wanted`)
  for (const fault of faults) console.log(`FAIL: ${fault}`)
  return faults.length === 0 ? 0 : 1
}

let code = 1
try {
  code = await main()
} catch (error) {
  console.error(error.message)
} finally {
  for (const child of children) child.kill('SIGKILL')
  rmSync(scratch, { recursive: true, force: true })
}
process.exit(code)
