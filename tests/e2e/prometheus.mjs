// A strict reader of Prometheus' text format (prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4): it
// throws at whatever a scraper could trip over, also where real scrapers are lenient.
import assert from 'node:assert/strict';

const metricName = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
const labelName = /^[a-zA-Z_][a-zA-Z0-9_]*/;
const suffixes = { histogram: ['_bucket', '_sum', '_count'], summary: ['', '_sum', '_count'] };

function parseValue(text) {
  if (text === '+Inf') return Infinity;
  if (text === '-Inf') return -Infinity;
  if (text === 'NaN') return NaN;
  assert.match(text, /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i, 'a value must be a number');
  return Number(text);
}

function parseLabels(text) {
  const labels = {};
  let rest = text;
  while (!rest.startsWith('}')) {
    const name = labelName.exec(rest)?.[0];
    assert.ok(name, `a label's name, not ${rest}`);
    assert.ok(!(name in labels), `label ${name} twice`);
    const value = /^="((?:[^"\\\n]|\\["\\n])*)"/.exec(rest.slice(name.length));
    assert.ok(value, `a quoted value of label ${name}, not ${rest}`);
    labels[name] = value[1].replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
    rest = rest.slice(name.length + value[0].length);
    if (rest.startsWith(',')) rest = rest.slice(1);
    else assert.ok(rest.startsWith('}'), `a comma or the end of the labels, not ${rest}`);
  }
  return [labels, rest.slice(1)];
}

function parseSample(line) {
  const name = metricName.exec(line)?.[0];
  assert.ok(name, `a metric's name, not ${line}`);
  let rest = line.slice(name.length);
  let labels = {};
  if (rest.startsWith('{')) [labels, rest] = parseLabels(rest.slice(1));
  assert.match(rest, /^ \S+$/, 'one space and the value, without a time, at the end');
  return { name, labels, value: parseValue(rest.slice(1)) };
}

const seriesKey = ({ name, labels }) => JSON.stringify([name, Object.entries(labels).sort()]);

function checkHistogram(family) {
  const series = new Map();
  for (const sample of family.samples) {
    const { le, ...labels } = sample.labels;
    const key = seriesKey({ name: '', labels });
    if (!series.has(key)) series.set(key, { buckets: [] });
    const kind = sample.name.slice(family.name.length);
    if (kind !== '_bucket') {
      assert.equal(le, undefined, `${sample.name} has no le`);
      series.get(key)[kind] = sample.value;
    } else {
      assert.notEqual(le, undefined, `${sample.name} has an le`);
      series.get(key).buckets.push({ le: parseValue(le), count: sample.value });
    }
  }
  for (const [key, { buckets, _sum, _count }] of series) {
    const where = `${family.name} ${key}`;
    assert.ok(buckets.length > 0 && _sum !== undefined && _count !== undefined, `${where} is complete`);
    for (let i = 1; i < buckets.length; ++i) {
      assert.ok(buckets[i].le > buckets[i - 1].le, `${where}: bounds ascend`);
      assert.ok(buckets[i].count >= buckets[i - 1].count, `${where}: buckets are cumulative`);
    }
    assert.equal(buckets.at(-1).le, Infinity, `${where}: the last bucket is +Inf`);
    assert.equal(buckets.at(-1).count, _count, `${where}: +Inf equals _count`);
  }
}

// The families by name, each {name, type, help, samples: [{name, labels, value}]}.
export function parsePrometheus(text) {
  assert.ok(text.endsWith('\n'), 'the last line must end');
  const families = new Map();
  const seen = new Set();
  let current; // samples of a family stand together, behind its HELP and TYPE
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) (\S+) ?(.*)$/.exec(line);
    if (comment) {
      const [, kind, name, said] = comment;
      assert.equal(metricName.exec(name)?.[0], name, line);
      if (current?.name !== name) {
        assert.ok(!families.has(name), `${name} is described in two places`);
        families.set(name, (current = { name, samples: [] }));
      }
      const field = kind.toLowerCase();
      assert.equal(current[field], undefined, `${kind} of ${name} twice`);
      assert.equal(current.samples.length, 0, `${kind} of ${name} behind its samples`);
      if (field === 'type') assert.match(said, /^(counter|gauge|histogram|summary|untyped)$/);
      else assert.match(said, /^([^\\]|\\[\\n])+$/, `HELP of ${name}`);
      current[field] = said;
      continue;
    }
    assert.ok(!line.startsWith('#'), `neither HELP nor TYPE: ${line}`);
    const sample = parseSample(line);
    assert.ok(current?.type && current.help, `HELP and TYPE before ${line}`);
    const names = (suffixes[current.type] ?? ['']).map((suffix) => current.name + suffix);
    assert.ok(names.includes(sample.name), `${sample.name} among the samples of ${current.name}`);
    const key = seriesKey(sample);
    assert.ok(!seen.has(key), `${key} twice`);
    seen.add(key);
    if (current.type === 'counter') assert.ok(sample.value >= 0, line);
    current.samples.push(sample);
  }
  for (const family of families.values()) {
    assert.ok(family.type && family.help, `${family.name} has HELP and TYPE`);
    if (family.type === 'histogram') checkHistogram(family);
  }
  // A histogram's own series must not be taken for another family's.
  for (const family of families.values()) {
    for (const suffix of suffixes[family.type] ?? []) {
      if (suffix) assert.ok(!families.has(family.name + suffix), `${family.name}${suffix} is a family of its own`);
    }
  }
  return families;
}
