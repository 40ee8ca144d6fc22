// The inputs of `recommender.onnx`, for Node and for a page. `ort`: onnxruntime-web or onnxruntime-node.
// sessions: lists of external ids; integer ids may be numbers, BigInts or strings of digits. Where ids are integers,
// anything else is unknown and left out, and so is a number that no int64 holds, or that is beyond 2^53 and no BigInt or
// string: it would become another item's id.
export function feedOf(ort, session, sessions, { k = 10, exclude = [], allow = null, excludeSeen = false, now = Date.now() } = {}) {
  const text = session.inputMetadata.find(({ name }) => name === 'session').type === 'string';
  const isWhole = (id) => (typeof id === 'number' ? Number.isSafeInteger(id) : /^-?\d+$/.test(id));
  const possible = (list) => (text ? list : list.filter(isWhole).map(BigInt).filter((id) => BigInt.asIntN(64, id) === id));
  const ids = (list, shape = [list.length]) =>
    text ? new ort.Tensor('string', list, shape) : new ort.Tensor('int64', BigInt64Array.from(list), shape);
  const clicks = sessions.map(possible);
  const length = Math.max(0, ...clicks.map((one) => one.length));
  const filling = text ? '' : -1n;
  const rows = clicks.flatMap((one) => [...one, ...Array(length - one.length).fill(filling)]);
  const flag = (truth) => new ort.Tensor('bool', Uint8Array.of(truth ? 1 : 0), [1]);
  const feed = {
    session: ids(rows, [clicks.length, length]),
    lengths: new ort.Tensor('int32', Int32Array.from(clicks, (one) => one.length), [clicks.length]),
    k: new ort.Tensor('int64', BigInt64Array.of(BigInt(k)), [1]),
    exclude: ids(possible(exclude)),
    allow: ids(possible(allow ?? [])),
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
    const filled = Array.from({ length: k }, (_, rank) => row * k + rank).filter((at) => scores.data[at] > -Infinity);
    lists.push(filled.map((at) => ({ item: items.data[at], score: scores.data[at] })));
  }
  return lists;
}
