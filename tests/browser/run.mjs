// A real Django site behind Weir, used by a real browser: what people do must work as without Weir, the origin must be
// spared what can be shared, and nobody may see what belongs to somebody else.
//
//   node run.mjs --tools DIR --python PYTHON --weir BINARY [--vault] [--chromium PATH] [--shots DIR]

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const START_LIMIT_MS = 30_000
const PASSWORD = 'correct horse'
const here = dirname(fileURLToPath(import.meta.url))
const site = join(here, '../django')

const { values: options } = parseArgs({
  options: {
    tools: { type: 'string' },
    python: { type: 'string' },
    weir: { type: 'string' },
    direct: { type: 'boolean', default: false }, // without Weir: shows that the story itself is sound
    vault: { type: 'boolean', default: false }, // the site's cookies are kept by Weir, and the browser has one of Weir's instead
    chromium: { type: 'string', default: '/usr/bin/chromium' },
    shots: { type: 'string', default: 'target/browser' }
  }
})
const { chromium } = createRequire(join(options.tools, 'package.json'))('playwright-core')

const scratch = mkdtempSync(join(tmpdir(), 'weir-browser-'))
const children = []
let printed = ''

const vault = `
[data]
path = "data"
[session]
keys = ["a secret of the tests"]
[vault]
cookies = ["sessionid", "csrftoken", "messages"]
`

/** Starts a program; resolves with the first match of `ready` in what it prints. */
function start (program, args, settings, ready) {
  const child = spawn(program, args, { ...settings, stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  let own = ''
  return new Promise((resolve, reject) => {
    const giveUp = setTimeout(() => reject(new Error(`${program} was not ready in time; it printed:\n${own}`)), START_LIMIT_MS)
    const look = chunk => {
      own += chunk
      printed = (printed + chunk).slice(-30_000)
      const match = ready.exec(own)
      if (match) {
        clearTimeout(giveUp)
        resolve(match)
      }
    }
    child.stdout.on('data', look)
    child.stderr.on('data', look)
    child.on('exit', code => {
      clearTimeout(giveUp)
      reject(new Error(`${program} ended with ${code}; it printed:\n${own}`))
    })
  })
}

async function story (name, tell) {
  await tell()
  console.log(`ok: ${name}`)
}

/** A browser profile of its own, that counts what it asks the server for. */
async function person (browser, base, asked) {
  const context = await browser.newContext({ baseURL: base })
  context.setDefaultTimeout(20_000)
  const page = await context.newPage()
  page.on('request', request => {
    const path = new URL(request.url()).pathname
    asked.set(path, (asked.get(path) ?? 0) + 1)
  })
  page.on('pageerror', error => { throw error })
  return { context, page }
}

async function logIn (page, name, next = '/me/') {
  await page.goto(`/accounts/login/?next=${next}`)
  await page.fill('input[name=username]', name)
  await page.fill('input[name=password]', PASSWORD)
  await Promise.all([page.waitForURL(`**${next}`), page.click('main button')])
}

async function main () {
  const environment = { ...process.env, SITE_STATE: scratch, DJANGO_SETTINGS_MODULE: 'site_under_test.settings', PYTHONDONTWRITEBYTECODE: '1' }
  const prepared = spawnSync(options.python, ['manage.py', 'prepare'], { cwd: site, env: environment, encoding: 'utf8' })
  assert.equal(prepared.status, 0, prepared.stdout + prepared.stderr)
  const [, origin] = await start(options.python,
    ['-m', 'uvicorn', 'site_under_test.asgi:application', '--host', '127.0.0.1', '--port', '0', '--no-access-log', '--timeout-graceful-shutdown', '1'],
    { cwd: site, env: environment }, /Uvicorn running on (http:\/\/127\.0\.0\.1:\d+)/)

  let base = origin
  if (!options.direct) {
    const config = join(scratch, 'weir.toml')
    writeFileSync(config, `
[server]
listen = ["127.0.0.1:0"]
[admin]
listen = "127.0.0.1:0"
${options.vault ? vault : ''}
[[route]]
match = { path = "/ws/**" }
origin = "${origin}"
websocket = true
[[route]]
origin = "${origin}"
`)
    const [, address] = await start(options.weir, ['run', '--config', config], {}, /^listening on (http:\/\/\S+)/m)
    base = address.replace(/\/$/, '')
  }
  const counts = async () => (await fetch(`${origin}/origin/counts/`)).json()

  const browser = await chromium.launch({
    executablePath: options.chromium,
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage']
  })
  const asked = new Map()
  const alice = await person(browser, base, asked)
  const bob = await person(browser, base, asked)
  const guest = await person(browser, base, asked)
  const everybody = [alice, bob, guest]

  try {
    await story('pages and static files arrive, styled and scripted', async () => {
      for (const { page } of everybody) {
        const response = await page.goto('/')
        assert.equal(response.status(), 200)
        await page.getByText('The first post').waitFor()
        assert.equal(await page.locator('h1').evaluate(h1 => getComputedStyle(h1).color), 'rgb(20, 60, 120)')
        await page.locator('html[data-script=ran]').waitFor()
      }
    })

    let statics
    await story('the origin is spared what all of them share', async () => {
      for (const { page } of everybody) for (let i = 0; i < 5; i++) await page.goto(i % 2 ? '/' : '/posts/1/')
      const seen = await counts()
      statics = Object.keys(seen).filter(path => path.startsWith('/static/board/'))
      assert.ok(statics.length >= 2, JSON.stringify(seen))
      if (options.direct) return
      assert.equal(seen['/'], 1, 'the home page was made once')
      assert.equal(seen['/posts/1/'], 1)
      for (const path of statics) assert.equal(seen[path], 1, path)
    })

    await story('two people log in and each sees themselves', async () => {
      await logIn(alice.page, 'alice')
      await logIn(bob.page, 'bob')
      for (let visit = 2; visit < 6; visit++) {
        for (const [who, name] of [[alice, 'alice'], [bob, 'bob']]) {
          await who.page.goto('/me/')
          assert.equal(await who.page.textContent('#name'), name)
          assert.equal(await who.page.textContent('#visits'), String(visit))
        }
      }
      await guest.page.goto('/me/')
      assert.match(guest.page.url(), /\/accounts\/login\//, 'a guest is asked to log in')
      const own = options.vault ? '__Host-vault-kept' : 'sessionid'
      const cookie = async who => (await who.context.cookies()).find(cookie => cookie.name === own)?.value
      const [ofAlice, ofBob, ofGuest] = await Promise.all(everybody.map(cookie))
      assert.ok(ofAlice && ofBob && ofAlice !== ofBob)
      if (options.vault) {
        assert.notEqual(ofGuest, ofAlice)
        for (const who of everybody) {
          const names = (await who.context.cookies()).map(cookie => cookie.name)
          assert.ok(names.every(name => name.startsWith('__Host-vault')), `the site's cookies stay in Weir: ${names}`)
        }
      } else {
        assert.ok(!ofGuest)
      }
    })

    await story('a form with a CSRF token is accepted, and what it changed is seen by all', async () => {
      await alice.page.goto('/posts/new/')
      await alice.page.fill('input[name=title]', 'A post by the form')
      await alice.page.fill('textarea[name=text]', 'Some text')
      await Promise.all([alice.page.waitForURL(`${base}/`), alice.page.click('main button')])
      for (const { page } of everybody) {
        await page.goto('/')
        await page.getByText('A post by the form').waitFor()
      }
    })

    await story('a form with the wrong token is refused', async () => {
      await bob.page.goto('/posts/new/')
      await bob.page.evaluate(() => { document.querySelector('input[name=csrfmiddlewaretoken]').value = 'x'.repeat(64) })
      await bob.page.fill('input[name=title]', 'Forged')
      const [response] = await Promise.all([bob.page.waitForNavigation(), bob.page.click('main button')])
      assert.equal(response.status(), 403)
    })

    await story('the admin works', async () => {
      const root = await person(browser, base, asked)
      await logIn(root.page, 'root', '/admin/')
      await root.page.goto('/admin/board/post/add/')
      await root.page.fill('input[name=title]', 'A post by the admin')
      await root.page.selectOption('select[name=author]', { label: 'bob' })
      await Promise.all([root.page.waitForURL('**/admin/board/post/'), root.page.click('input[name=_save]')])
      await root.page.getByText('was added successfully').waitFor()
      await root.page.locator('#result_list').getByText('A post by the admin').click()
      await root.page.fill('input[name=title]', 'A post changed by the admin')
      await Promise.all([root.page.waitForURL('**/admin/board/post/'), root.page.click('input[name=_save]')])
      await root.page.locator('#result_list').getByText('A post changed by the admin').waitFor()
      await root.context.close()
      const denied = await guest.page.goto('/admin/')
      assert.match(denied.url(), /\/admin\/login\//)
    })

    await story('a stream arrives while it is made', async () => {
      for (const [number, { page }] of everybody.entries()) {
        await page.goto('/')
        const halves = await page.evaluate(async name => {
          const reader = (await fetch(`/stream/?name=${name}`)).body.getReader()
          const decoder = new TextDecoder()
          const first = decoder.decode((await reader.read()).value)
          await fetch(`/stream/release/?name=${name}`, { method: 'POST' })
          let rest = ''
          for (let piece = await reader.read(); !piece.done; piece = await reader.read()) rest += decoder.decode(piece.value)
          return [first, rest]
        }, `stream-${number}`)
        assert.deepEqual(halves, ['first half, ', 'second half'])
      }
    })

    await story('a large file is uploaded unharmed', async () => {
      const file = randomBytes(4_000_000)
      await alice.page.goto('/upload/')
      await alice.page.setInputFiles('input[name=file]', { name: 'noise.bin', mimeType: 'application/octet-stream', buffer: file })
      await Promise.all([alice.page.waitForNavigation(), alice.page.click('main button')])
      assert.equal(await alice.page.textContent('#size'), '4000000')
      assert.equal(await alice.page.textContent('#digest'), createHash('sha256').update(file).digest('hex'))
    })

    await story('a WebSocket talks both ways', async () => {
      for (const [number, { page }] of everybody.entries()) {
        await page.goto('/chat/')
        await page.locator('html[data-socket=open]').waitFor()
        for (const word of ['one', 'two']) {
          await page.fill('#say', `${word} of ${number}`)
          await page.locator('#say').dispatchEvent('change')
          await page.locator('#said').getByText(`echo: ${word} of ${number}`).waitFor()
        }
      }
    })

    await story('with several people at once nothing leaks', async () => {
      const marks = ['mark-of-alice', 'mark-of-bob']
      const paths = ['/me/', '/', '/posts/1/', '/posts/new/', '/upload/', '/chat/', '/me/?again', '/accounts/login/']
      await Promise.all([[alice, 'mark-of-alice'], [bob, 'mark-of-bob'], [guest, null]].map(async ([who, own]) => {
        for (let round = 0; round < 40; round++) {
          const path = paths[(round * 5 + (own ? own.length : 0)) % paths.length]
          const result = await who.page.evaluate(async path => {
            const response = await fetch(path)
            return { text: await response.text(), cookie: document.cookie }
          }, path)
          for (const mark of marks) {
            assert.ok(mark === own || !result.text.includes(mark), `${own ?? 'the guest'} sees ${mark} at ${path}`)
          }
          if (own && path.startsWith('/me/')) assert.ok(result.text.includes(own), `${own} at ${path}`)
          const tokens = [...result.text.matchAll(/csrfmiddlewaretoken" value="([^"]+)"/g)].map(match => match[1])
          for (const token of tokens) {
            assert.ok(!everyToken.has(token) || everyToken.get(token) === own, `a CSRF token was shown twice at ${path}`)
            everyToken.set(token, own)
          }
        }
      }))
    })

    await story('who logs out is out', async () => {
      await bob.page.goto('/me/')
      await Promise.all([bob.page.waitForURL(`${base}/`), bob.page.click('main button')])
      await bob.page.goto('/me/')
      assert.match(bob.page.url(), /\/accounts\/login\//)
      await alice.page.goto('/me/')
      assert.equal(await alice.page.textContent('#name'), 'alice')
    })

    const seen = await counts()
    const rows = [...asked].filter(([path]) => !path.startsWith('/ws/')).sort()
      .map(([path, by]) => ({ path, 'by browsers': by, 'at the origin': seen[path] ?? 0 }))
    console.table(rows)
    const total = column => rows.reduce((sum, row) => sum + row[column], 0)
    console.log(`browsers asked ${total('by browsers')} times (their own caches included), the origin was asked ${total('at the origin')} times`)
    if (!options.direct) {
      for (const path of statics) assert.equal(seen[path], 1, `${path}, after all of this`)
      assert.ok(seen['/'] <= 3, 'the home page: once, and once more after each write that led back to it')
    }
    return 0
  } catch (error) {
    mkdirSync(options.shots, { recursive: true })
    for (const [name, { page }] of Object.entries({ alice, bob, guest })) {
      await page.screenshot({ path: join(options.shots, `${name}.png`) }).catch(() => {})
    }
    throw error
  } finally {
    await browser.close()
  }
}

const everyToken = new Map()
let code = 1
try {
  code = await main()
} catch (error) {
  console.error(error)
  console.error(`--- printed by the site and Weir:\n${printed.slice(-6000)}`)
} finally {
  for (const child of children) child.kill('SIGKILL')
  rmSync(scratch, { recursive: true, force: true })
}
process.exit(code)
