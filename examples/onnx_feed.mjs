// The inputs of `recommender.onnx`, for Node and for a page. `ort`: onnxruntime-web or onnxruntime-node.
// sessions: lists of external ids; integer ids may be numbers, BigInts or strings of digits.
export function feedOf(ort, session, sessions, { k = 10, exclude = [], allow = null, excludeSeen = false, now = Date.now() } = {}) {
  const text = session.inputMetadata.find(({ name }) => name === 'session').type === 'string';
  const ids = (list, shape) =>
    text ? new ort.Tensor('string', list, shape) : new ort.Tensor('int64', BigInt64Array.from(list, BigInt), shape);
  const length = Math.max(0, ...sessions.map((one) => one.length));
  const filling = text ? '' : -1n;
  const rows = sessions.flatMap((one) => [...one, ...Array(length - one.length).fill(filling)]);
  const flag = (truth) => new ort.Tensor('bool', Uint8Array.of(truth ? 1 : 0), [1]);
  const feed = {
    session: ids(rows, [sessions.length, length]),
    lengths: new ort.Tensor('int32', Int32Array.from(sessions, (one) => one.length), [sessions.length]),
    k: new ort.Tensor('int64', BigInt64Array.of(BigInt(k)), [1]),
    exclude: ids(exclude, [exclude.length]),
    allow: ids(allow ?? [], [(allow ?? []).length]),
    use_allow: flag(allow !== null),
    exclude_seen: flag(excludeSeen),
  };
  // Only bundles with trends have the input `now`.
  if (session.inputNames.includes('now')) feed.now = new ort.Tensor('int64', BigInt64Array.of(BigInt(now)), [1]);
  return feed;
}

// One list of { item, score } a session, without the padding.
export function rankingsOf({ items, scores }) {
  const [rows, k] = items.dims;
  const lists = [];
  for (let row = 0; row < rows; row += 1) {
    const places = Array.from({ length: k }, (_, place) => row * k + place).filter((at) => scores.data[at] > -Infinity);
    lists.push(places.map((at) => ({ item: items.data[at], score: scores.data[at] })));
  }
  return lists;
}
