// Shows that scripts arrive; on the chat page, talks to the WebSocket.
document.documentElement.dataset.script = 'ran'

const say = document.getElementById('say')
if (say) {
  const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws/echo`)
  socket.onopen = () => { document.documentElement.dataset.socket = 'open' }
  socket.onmessage = event => {
    const line = document.createElement('li')
    line.textContent = event.data
    document.getElementById('said').append(line)
  }
  say.onchange = () => socket.send(say.value)
}
