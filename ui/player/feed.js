// Hands what is under way to the player of the same key: what the app draws now and then, and between that each moment
// that the server pushes (see ui/stream.py). So the player itself is sent only when it changes.

const OUTDATED = 4000, ENDED = 1000; // close codes: the page has to be drawn anew, or the run is over
const RETRY = 1000; // milliseconds after which a lost connection is tried again
const feeds = (globalThis.deepleakFeeds ??= new Map());
const mounted = new WeakMap();

function publish(data) {
  feeds.set(data.key, data);
  document.dispatchEvent(new CustomEvent("deepleak-feed", { detail: data.key }));
}

class Streams {
  sockets = new Map();

  // Connect to what the tracks name, and let go of all else.
  receive(data, send) {
    this.send = send;
    this.key = data.key;
    const wanted = new Set(Object.values(data.tracks).map((track) => track.stream).filter(Boolean));
    for (const stream of this.sockets.keys()) if (!wanted.has(stream)) this.leave(stream);
    for (const stream of wanted) if (!this.sockets.has(stream)) this.follow(stream);
    publish(this.newest(data));
  }

  // What the app has drawn, with moments that were pushed since it was read.
  newest(data) {
    const pushed = Object.values(feeds.get(this.key)?.tracks ?? {});
    const tracks = Object.entries(data.tracks).map(([place, track]) => {
      const before = pushed.find((other) => other.stream && other.stream === track.stream);
      return [place, track.live && before?.live?.t > track.live.t ? { ...track, live: before.live } : track];
    });
    return { ...data, tracks: Object.fromEntries(tracks) };
  }

  follow(stream) {
    const address = new URL(stream, globalThis.__streamlit?.BACKEND_BASE_URL ?? document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    this.sockets.set(stream, socket);
    socket.onmessage = (message) => this.take(stream, JSON.parse(message.data));
    socket.onclose = ({ code }) => {
      if (code === OUTDATED) this.send("outdated", stream);
      else if (code !== ENDED) setTimeout(() => this.sockets.get(stream) === socket && this.follow(stream), RETRY);
    };
  }

  // A track shows moments once the app has drawn its first one: runs beside each other begin together.
  take(stream, live) {
    const data = feeds.get(this.key);
    const tracks = Object.entries(data.tracks).map(([place, track]) => {
      return [place, track.stream === stream && track.live?.t < live.t ? { ...track, live } : track];
    });
    publish({ ...data, tracks: Object.fromEntries(tracks) });
  }

  leave(stream) {
    const socket = this.sockets.get(stream);
    this.sockets.delete(stream);
    socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

// Streamlit calls this at every change of data, and the function it returns when the element goes or a newer call came.
export default function feed({ data, parentElement, setTriggerValue }) {
  let held = mounted.get(parentElement);
  if (!held) mounted.set(parentElement, (held = { streams: new Streams(), calls: 0 }));
  const call = ++held.calls;
  held.streams.receive(data, setTriggerValue);
  return () => {
    if (call !== held.calls) return;
    for (const stream of [...held.streams.sockets.keys()]) held.streams.leave(stream);
    mounted.delete(parentElement);
  };
}
