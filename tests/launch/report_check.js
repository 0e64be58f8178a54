// Holds a report page against the data it carries: runs in the page, after it is laid out, and leaves what it found in
// <script id="verdict">. Its formats are written anew, so that page and check do not share a mistake.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const faults = [], counts = {figures: 0, bars: 0, ticks: 0, dots: 0, curves: 0, spans: 0};
  const fault = (...parts) => { if (faults.length < 20) faults.push(parts.join(' ')); };
  const near = (what, found, expected) => {
    if (!(Math.abs(found - expected) <= 0.5)) fault(what + ': at', found, 'px, expected', expected);
  };

  // ---- what stands at a pointer
  const tokens = p => p.split('/').slice(1).map(t => t.replace(/~1/g, '/').replace(/~0/g, '~'));
  const all = p => tokens(p).reduce(
      (found, t) => found.flatMap(v => t === '*' ? Object.values(v) : v != null && t in Object(v) ? [v[t]] : []), [data]);
  const number = (p, over) => {
    const found = all(p);
    if (!found.length || !found.every(v => typeof v === 'number')) return NaN;
    const sum = found.reduce((a, b) => a + b, 0);
    return over === 'max' ? Math.max(...found) : over === 'mean' ? sum / found.length : sum;
  };
  const valueOf = e => {
    const {at, plus, less, times, of, over} = e.dataset;
    let v = number(at, over);
    if (plus) v += number(plus, over);
    if (less) v -= number(less, over);
    if (times) v *= number(times, over);
    if (of) v /= number(of, over);
    return v;
  };

  // ---- how it is written; ties go to the even digit as in printf
  const fixed = (v, d) => {
    const s = Math.abs(v).toFixed(80), dot = s.indexOf('.'), cut = dot + 1 + d;
    if (!/^50*$/.test(s.slice(cut))) return v.toFixed(d);
    const down = s.slice(0, d ? cut : dot), even = '02468'.includes(down[down.length - 1]);
    const size = even ? down : (Number(down) + 10 ** -d).toFixed(d);
    return (v < 0 ? '-' : '') + size;
  };
  const count = v => fixed(v, 0).replace(/\B(?=(\d{3})+$)/g, ',');
  const round = v => count(Math.sign(v) * Math.floor(Math.abs(v) + 0.5));
  const three = v => {
    const [mantissa, power] = v.toExponential(2).split('e');
    const plain = s => s.includes('.') ? s.replace(/\.?0+$/, '') : s;
    if (power >= -4) return plain(v.toFixed(2 - power));
    return plain(mantissa) + 'e' + power[0] + power.slice(1).padStart(2, '0');
  };
  const free = v => {
    const a = Math.abs(v);
    return v === 0 ? '0' : a >= 999.5 ? round(v) : a >= 10 ? fixed(v, 1) : a >= 0.9995 ? fixed(v, 2) : three(v);
  };
  const scaled = (v, factor, names, digits) => {
    let i = 0;
    for (; v >= factor && i < names.length - 1; ++i) v /= factor;
    return digits(v, i) + ' ' + names[i];
  };
  const format = {
    bytes: v => scaled(v, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB'],
                       (x, i) => fixed(x, i === 0 || x >= 100 ? 0 : x >= 10 ? 1 : 2)),
    count: round,
    short: v => {
      for (const [size, name] of [[1e12, 'T'], [1e9, 'B'], [1e6, 'M']])
        if (v >= size) return fixed(v / size, v >= 100 * size ? 1 : 2) + ' ' + name;
      return round(v);
    },
    ms: v => {
      const ms = 1e3 * v, a = Math.abs(ms);
      return ms !== 0 && a < 9.995 ? fixed(ms, a < 0.9995 ? 3 : 2) : free(ms);
    },
    seconds: v => {
      if (v >= 59.95) {
        const s = Math.round(v);
        return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
      }
      return v >= 1 || v === 0 ? free(v) + ' s' : v >= 1e-3 ? free(1e3 * v) + ' ms' : free(1e6 * v) + ' µs';
    },
    percent: v => fixed(100 * v, 1) + ' %',
    times: free,
    tera: v => free(v / 1e12),
    number: free,
    fixed1: v => fixed(v, 1),
    fixed2: v => fixed(v, 2),
    fixed4: v => fixed(v, 4),
  };
  const shown = e => {
    const {at, as} = e.dataset;
    if (as === 'key') return all(at).length === 1 ? tokens(at).pop() : undefined;
    if (as === 'text') return all(at)[0];
    const v = valueOf(e);
    return as in format && Number.isFinite(v) ? format[as](v) : undefined;
  };

  for (const e of document.querySelectorAll('[data-at]')) {
    const expected = shown(e), title = e.querySelector('title');
    ++counts.figures;
    if (expected === undefined) fault(e.outerHTML, 'has no value');
    else if (title) {
      if (!title.textContent.endsWith(': ' + expected) && !title.textContent.endsWith(': ' + expected + ' ms'))
        fault(e.dataset.at + ': titled', title.textContent + ', expected', expected);
    } else if (!['rect', 'line'].includes(e.tagName) && e.textContent !== expected)
      fault(e.dataset.at + ': shows', e.textContent + ', expected', expected);
  }

  // ---- ticks say the value they stand at
  const units = {B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, PiB: 2 ** 50, s: 1, ms: 1e-3, 'µs': 1e-6};
  const tickOf = e => {
    const [digits, unit] = e.textContent.split(' '), v = Number(e.dataset.tick);
    const tera = e.closest('table')?.querySelector('[data-as=tera]') ? 1e12 : 1;
    const said = Number(digits.replace(/,/g, '')) * (unit ? units[unit] : tera);
    if (!(Math.abs(said - v) <= 1e-6 * Math.abs(v))) fault('tick', e.textContent, 'stands at', v);
    ++counts.ticks;
    return v;
  };
  // x and y of a letter are where it is anchored, in the frame of its picture.
  const length = (attribute, whole) => attribute.endsWith('%') ? parseFloat(attribute) / 100 * whole : parseFloat(attribute);
  const tickPlaces = (ticks, axis, box) => ticks.map(e => [tickOf(e), length(e.getAttribute(axis), axis === 'x' ? box.width : box.height)]);
  // The place of any value, after the first and last tick, against which the others are held.
  const scale = (places, log, what) => {
    const f = log ? Math.log : v => v, [v0, p0] = places[0], [v1, p1] = places[places.length - 1];
    const place = v => p0 + (p1 - p0) * (f(v) - f(v0)) / (f(v1) - f(v0));
    if (places.length < 2) fault(what, 'has fewer than two ticks');
    for (const [v, p] of places) near(what + ', tick ' + v, p, place(v));
    return place;
  };

  for (const table of document.querySelectorAll('[data-chart=bars]')) {
    const name = table.closest('section').querySelector('h2').textContent;
    const frame = table.querySelector('svg:has(.tick)').getBoundingClientRect();
    const place = scale(tickPlaces([...table.querySelectorAll('.tick')], 'x', frame), false, name);
    for (const svg of table.querySelectorAll('svg')) {
      const box = svg.getBoundingClientRect();
      near(name + ', row', box.left, frame.left), near(name + ', row', box.width, frame.width);
      let sum = 0;
      for (const bar of svg.querySelectorAll('rect')) {
        const own = bar.getBoundingClientRect(), v = valueOf(bar);
        near(bar.dataset.at + ', length', own.width, place(v) - place(0));
        near(bar.dataset.at + ', start', own.left - box.left, place(sum));
        sum += v, ++counts.bars;
      }
      for (const line of svg.querySelectorAll('line[data-at]'))
        near(line.dataset.at, length(line.getAttribute('x1'), box.width), place(valueOf(line)));
    }
  }

  for (const svg of document.querySelectorAll('[data-chart=linear],[data-chart=log]')) {
    const name = svg.closest('section').querySelector('h2').textContent, box = svg.getBoundingClientRect();
    const log = svg.dataset.chart === 'log';
    const frame = {width: box.width, height: Number(svg.getAttribute('height'))};
    const x = scale(tickPlaces([...svg.querySelectorAll('.across .tick')], 'x', frame), log, name + ' across');
    const y = scale(tickPlaces([...svg.querySelectorAll('.tick.up')], 'y', frame), log, name + ' up');
    for (const dot of svg.querySelectorAll('circle')) {
      near(dot.dataset.at + ', x', length(dot.getAttribute('cx'), frame.width), x(number(dot.dataset.x) + Number(dot.dataset.xPlus)));
      near(dot.dataset.at + ', y', length(dot.getAttribute('cy'), frame.height), y(valueOf(dot)));
      ++counts.dots;
    }
    for (const curve of svg.querySelectorAll('polyline')) {
      const {list, stride, window: half} = curve.dataset, at = (v, p) => tokens(p).reduce((u, t) => u?.[t], v);
      const rows = all(list)[0].map(v => [at(v, curve.dataset.x), at(v, curve.dataset.y)])
                       .filter(p => p.every(v => typeof v === 'number' && (!log || v > 0)));
      const smooth = i => {
        const part = rows.slice(Math.max(0, i - half), i + Number(half) + 1);
        return part.reduce((s, p) => s + p[1], 0) / part.length;
      };
      const kept = rows.map((p, i) => [p[0] + Number(curve.dataset.xPlus), half ? smooth(i) : p[1]]).filter((_, i) => i % stride === 0);
      const points = curve.getAttribute('points').split(' ').map(p => p.split(',').map(Number));
      if (points.length !== kept.length) fault(list, 'has', points.length, 'points, expected', kept.length);
      else kept.forEach(([u, v], i) => {
        near(list + ' ' + i + ', x', points[i][0] * frame.width / 1000, x(u));
        near(list + ' ' + i + ', y', points[i][1] * frame.height / 1000, y(v));
      });
      ++counts.curves;
    }
  }

  for (const svg of document.querySelectorAll('[data-chart=timeline]')) {
    const box = svg.getBoundingClientRect(), rows = new Map();
    const place = scale(tickPlaces([...svg.querySelectorAll('.tick')], 'x', box), false, 'timeline');
    for (const span of svg.querySelectorAll('[data-span]')) {
      const [v] = all(span.dataset.span), own = span.getBoundingClientRect(), stage = tokens(span.dataset.span).at(-2);
      near(span.dataset.span + ', start', length(span.getAttribute('x'), box.width), place(v.start_s));
      near(span.dataset.span + ', length', length(span.getAttribute('width'), box.width), place(v.end_s) - place(v.start_s));
      if (!rows.has(stage)) rows.set(stage, own.top);
      near(span.dataset.span + ', lane', own.top, rows.get(stage));
      ++counts.spans;
    }
    if (new Set(rows.values()).size !== rows.size) fault('two stages share a lane');
  }

  // ---- no digit but in a figure, a tick or the one label that has some
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = texts.nextNode());) {
    const parent = node.parentElement;
    if (!/\d/.test(node.data) || parent.closest('script,style,title,[data-at],[data-tick]')) continue;
    if (parent.matches('.label') && node.data === '100') continue;  // storage of 100 models
    fault('a number that is no figure:', node.data);
  }
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) fault('wider than the window');

  const verdict = document.createElement('script');
  verdict.type = 'application/json', verdict.id = 'verdict';
  verdict.textContent = JSON.stringify({counts, faults}).replace(/</g, '\\u003c');
  document.body.append(verdict);
})();
