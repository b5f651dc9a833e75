// Hands what is under way to the player of the same key: so the player itself is sent only when it changes.

const feeds = (globalThis.deepleakFeeds ??= new Map());

export default function feed({ data }) {
  feeds.set(data.key, data);
  document.dispatchEvent(new CustomEvent("deepleak-feed", { detail: data.key }));
}
