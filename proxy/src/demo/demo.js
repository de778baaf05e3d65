'use strict'

const pages = [
  ['/slow', 'max-age=10, stale-while-revalidate=30'],
  ['/search?q=a&utm_source=b', 'nothing; the route gives 30 s and ignores utm_*'],
  ['/api/news', 'max-age=2, and an ETag'],
  ['/greeting', 'max-age=60, Vary: Accept-Language'],
  ['/static/style.css', 'max-age=86400'],
  ['/me', 'private'],
  ['/random', 'no-store'],
  ['/silent', 'nothing at all'],
  ['/nowhere', 'nothing, and 404'],
]
const find = (id) => document.getElementById(id)
let asked = 0
let before

async function ask(path, options) {
  asked += 1
  const begun = performance.now()
  // The browser's own cache would hide what Weir does.
  const response = await fetch(path, { cache: 'no-store', ...options })
  const body = await response.text()
  const status = response.headers.get('cache-status') ?? '(no Cache-Status)'
  return { response, body, status, ms: performance.now() - begun }
}

async function count() {
  const { requests } = await (await fetch('/count', { cache: 'no-store' })).json()
  before ??= requests
  find('asked').textContent = asked
  find('reached').textContent = requests - before
  find('spared').textContent = Math.max(0, asked - (requests - before))
}

// The reasons that this page can meet; docs/caching.md has all.
const reasons = {
  private: 'the application says private',
  'no-store': 'the application says no-store',
  'known-uncacheable': 'found a moment ago that it cannot be shared',
  cookie: 'you sent a cookie, and the application does not say public',
  'stale-while-revalidate': 'stale; a new one is being fetched behind',
  'stale-if-error': 'stale, because the application fails',
  fallback: 'nothing stored; this is what the route says instead',
  'no-freshness': 'nobody says for how long it would be good',
}

async function show(path, cells) {
  const { response, body, status, ms } = await ask(path)
  const detail = /detail=([a-z-]+)/.exec(status)?.[1]
  cells[1].textContent = `${ms.toFixed(ms < 10 ? 1 : 0)} ms`
  cells[2].textContent = status
  cells[2].className = response.status >= 500 ? 'bad' : /;\s*hit/.test(status) ? 'hit' : 'miss'
  if (reasons[detail]) {
    const why = document.createElement('small')
    why.textContent = reasons[detail]
    cells[2].append(why)
  }
  cells[3].textContent = path.endsWith('.css') ? `${response.status}, ${body.length} characters` : `${response.status} ${body.slice(0, 120)}`
  await count()
}

const first = []
for (const [path, says] of pages) {
  const row = find('pages').insertRow()
  const button = document.createElement('button')
  button.textContent = path
  row.insertCell().append(button)
  const cells = [says, '', '', ''].map((text) => {
    const cell = row.insertCell()
    cell.textContent = text
    return cell
  })
  button.onclick = () => show(path, cells)
  first.push(button.onclick)
}

find('crowd').onclick = async () => {
  const begun = performance.now()
  const path = `/slow?crowd=${Date.now()}`
  const start = (await (await fetch('/count', { cache: 'no-store' })).json()).requests
  await Promise.all(Array.from({ length: 50 }, () => ask(path)))
  const end = (await (await fetch('/count', { cache: 'no-store' })).json()).requests
  find('note').textContent = `50 answers after ${(performance.now() - begun).toFixed(0)} ms; ${end - start} reached the application`
  await count()
}
find('post').onclick = async () => {
  find('note').textContent = (await ask('/api/news', { method: 'POST' })).body
  await count()
}
find('break').onclick = async () => {
  find('note').textContent = (await ask('/break', { method: 'POST' })).body + 'What is stored stays up: ask for it.'
  await count()
}

new EventSource('/clock').onmessage = ({ data }) => { find('clock').textContent = data }

let socket
find('echo').onsubmit = (event) => {
  event.preventDefault()
  const input = event.target.elements[0]
  const say = () => { socket.send(input.value); input.value = '' }
  if (socket?.readyState === WebSocket.OPEN) return say()
  socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/echo`)
  socket.onopen = say
  socket.onmessage = ({ data }) => { find('said').textContent = `heard back: ${data}` }
  socket.onerror = () => { find('said').textContent = 'the connection failed' }
}
count().then(async () => {
  for (const askOnce of first) await askOnce()
})
