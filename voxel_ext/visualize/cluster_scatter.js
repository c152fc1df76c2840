"use strict";
// a scatter plot of objects: the pointer shows one, a click keeps it, the legend filters
for (const root of document.querySelectorAll(".scatter")) {
  const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const find = (selector) => root.querySelector(selector);
  const canvas = find(".plot canvas"), tip = find(".tip"), pinned = find(".pinned"), legend = find(".legend");
  const decode = (text, kind) => new kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const x = decode(data.x, Float32Array), y = decode(data.y, Float32Array), count = x.length;
  const features = data.features.map((one) => ({ ...one, values: decode(one.values, Float32Array) }));
  const groups = data.groups.map((one) => ({ ...one, members: decode(one.members, Int32Array) }));
  const slot = new Map(data.thumbnails.rows.map((row, place) => [row, place]));
  const sheets = data.thumbnails.sheets.map((url) => { const image = new Image(); image.src = url; return image; });
  const hidden = groups.map(() => new Set());
  const pins = new Set();
  const number = (value) => Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "–";

  const extent = (values) => {
    let low = Infinity, high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    const room = 0.04 * (high - low) || 1;
    return [low - room, high + room];
  };
  const whole = { x: extent(x), y: extent(y) };
  let view = whole, mode = { group: 0 }, hovered = -1, drag = null, px = new Float32Array(count), py = new Float32Array(count);

  // viridis
  const stops = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];
  const ramp = (share) => {
    const at = Math.max(0, Math.min(1, share)) * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2);
    return "rgb(" + stops[k].map((c, i) => Math.round(c + (at - k) * (stops[k + 1][i] - c))) + ")";
  };
  const percentiles = (values) => {
    const sorted = Array.from(values).filter(Number.isFinite).sort((a, b) => a - b);
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    return sorted.length ? [at(0.02), at(0.98)] : [0, 1];
  };
  const colorOf = () => {
    if (mode.group !== undefined) {
      const group = groups[mode.group];
      return (i) => group.colors[group.members[i]];
    }
    const { values } = features[mode.feature], [low, high] = mode.range;
    return (i) => Number.isFinite(values[i]) ? ramp((values[i] - low) / (high - low || 1)) : "#7c8796";
  };
  const shown = (i) => groups.every((group, g) => !hidden[g].has(group.members[i]));

  const draw = () => {
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio; canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const radius = Math.max(1.6, Math.min(4.5, 110 / Math.sqrt(count)));
    // circles of many points take too long, and look the same
    const small = count > 5000, color = colorOf(), later = [];
    pen.globalAlpha = 0.85;
    for (let i = 0; i < count; i++) {
      px[i] = shown(i) ? (x[i] - view.x[0]) / (view.x[1] - view.x[0]) * width : NaN;
      py[i] = height - (y[i] - view.y[0]) / (view.y[1] - view.y[0]) * height;
      if (!(px[i] > -9 && px[i] < width + 9 && py[i] > -9 && py[i] < height + 9)) { px[i] = NaN; continue; }
      pen.fillStyle = color(i);
      if (small) pen.fillRect(px[i] - radius, py[i] - radius, 2 * radius, 2 * radius);
      else { pen.beginPath(); pen.arc(px[i], py[i], radius, 0, 7); pen.fill(); }
      if (i === hovered || pins.has(i)) later.push(i);
    }
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.strokeStyle = getComputedStyle(root).color;
    for (const i of later) { pen.beginPath(); pen.arc(px[i], py[i], radius + 2.5, 0, 7); pen.stroke(); }
    if (drag && drag.moved) pen.strokeRect(drag.x, drag.y, drag.toX - drag.x, drag.toY - drag.y);
  };
  let waiting = false;
  const refresh = () => {
    if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); }
  };

  const nearest = (atX, atY) => {
    let best = -1, least = 12 * 12;
    for (let i = 0; i < count; i++) {
      const away = (px[i] - atX) ** 2 + (py[i] - atY) ** 2;
      if (away < least) { least = away; best = i; }
    }
    return best;
  };
  // what is known of an object; text only, never HTML
  const card = (element, i) => {
    element.textContent = "";
    const place = slot.get(i), { width, height, columns, each } = data.thumbnails;
    if (place !== undefined) {
      const picture = document.createElement("canvas"), inside = place % each, sheet = sheets[Math.floor(place / each)];
      const scale = 256 / width;
      picture.width = 256; picture.height = height * scale;
      const show = () => picture.getContext("2d").drawImage(
        sheet, inside % columns * width, Math.floor(inside / columns) * height, width, height, 0, 0, 256, height * scale);
      if (sheet.complete) show(); else sheet.addEventListener("load", show);
      element.append(picture);
    }
    const table = element.appendChild(document.createElement("table"));
    const row = (name, value, color) => {
      const line = table.insertRow(), head = line.appendChild(document.createElement("th")), cell = line.insertCell();
      head.textContent = name;
      if (color) { const chip = cell.appendChild(document.createElement("span")); chip.className = "chip"; chip.style.background = color; }
      cell.append(value);
    };
    row("id", data.ids[i]);
    for (const group of groups) row(group.name, group.labels[group.members[i]], group.colors[group.members[i]]);
    for (const one of features.slice(0, data.main)) row(one.name, number(one.values[i]));
    if (mode.feature >= data.main) row(features[mode.feature].name, number(features[mode.feature].values[i]));
    if (place === undefined) row("thumbnail", "not among those drawn");
  };
  const hover = (i, atX, atY) => {
    if (i !== hovered) {
      hovered = i;
      tip.hidden = i < 0;
      if (i >= 0) card(tip, i);
      refresh();
    }
    if (i < 0) return;
    const box = find(".plot"), width = box.clientWidth;
    tip.style.left = box.offsetLeft + (atX + 18 + tip.offsetWidth < width ? atX + 18 : Math.max(atX - 18 - tip.offsetWidth, 0)) + "px";
    tip.style.top = box.offsetTop + Math.max(0, Math.min(atY - 40, box.clientHeight - tip.offsetHeight)) + "px";
  };
  const pin = (i) => {
    if (pins.has(i)) pins.delete(i); else pins.add(i);
    pinned.textContent = "";
    for (const one of pins) {
      const element = pinned.appendChild(document.createElement("div"));
      element.className = "card";
      element.title = "Click to remove";
      card(element, one);
      element.addEventListener("click", () => pin(one));
    }
    refresh();
  };

  const toggle = (g, member) => {
    if (hidden[g].has(member)) hidden[g].delete(member); else hidden[g].add(member);
    drawLegend(); refresh();
  };
  const showAll = () => { for (const set of hidden) set.clear(); drawLegend(); refresh(); };
  const drawLegend = () => {
    legend.textContent = "";
    const button = (text, act, pressed, title) => {
      const element = legend.appendChild(document.createElement("button"));
      element.type = "button"; element.title = title;
      if (pressed !== undefined) element.setAttribute("aria-pressed", pressed);
      element.addEventListener("click", act);
      element.append(text);
      return element;
    };
    if (mode.feature !== undefined) {
      const [low, high] = mode.range, bar = document.createElement("span");
      bar.className = "ramp";
      bar.style.background = "linear-gradient(to right," + stops.map((c) => "rgb(" + c + ")") + ")";
      legend.append(number(low), bar, number(high) + " (2nd to 98th percentile)");
    }
    const g = mode.group === undefined ? 0 : mode.group, group = groups[g];
    group.labels.forEach((label, member) => {
      const element = button(label + " (" + group.sizes[member] + ")", () => toggle(g, member), !hidden[g].has(member),
        "Click to show or hide, double-click for this one alone");
      const chip = document.createElement("span");
      chip.className = "chip"; chip.style.background = group.colors[member];
      element.prepend(chip);
    });
    if (hidden.some((set) => set.size)) button("show all", showAll, undefined, "Key: a");
  };
  // the legend is made anew by each click, so a double-click is two clicks on the same name
  let last = { text: "", time: 0 };
  legend.addEventListener("click", (event) => {
    const element = event.target.closest("button[aria-pressed]");
    if (!element) return;
    const again = element.textContent === last.text && event.timeStamp - last.time < 400;
    last = { text: element.textContent, time: event.timeStamp };
    if (!again) return;
    event.stopPropagation();
    const g = mode.group === undefined ? 0 : mode.group, group = groups[g];
    hidden[g] = new Set(group.labels.map((_, member) => member)
      .filter((member) => group.labels[member] + " (" + group.sizes[member] + ")" !== element.textContent));
    drawLegend(); refresh();
  }, true);

  const select = find("select");
  select.addEventListener("change", () => {
    const [kind, place] = select.value.split(":");
    mode = { [kind]: Number(place) };
    if (kind === "feature") mode.range = percentiles(features[mode.feature].values);
    drawLegend(); refresh();
  });
  find(".find").addEventListener("change", (event) => {
    const i = data.ids.indexOf(event.target.value.trim());
    event.target.setCustomValidity(i < 0 && event.target.value ? "There is no object with this id." : "");
    event.target.reportValidity();
    if (i >= 0 && !pins.has(i)) pin(i);
  });
  const at = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointermove", (event) => {
    const [atX, atY] = at(event);
    if (drag) {
      drag.toX = atX; drag.toY = atY;
      drag.moved = drag.moved || Math.hypot(atX - drag.x, atY - drag.y) > 5;
      if (drag.moved) { hover(-1); refresh(); return; }
    }
    hover(nearest(atX, atY), atX, atY);
  });
  canvas.addEventListener("pointerleave", () => { if (!drag) hover(-1); });
  canvas.addEventListener("pointerdown", (event) => {
    const [atX, atY] = at(event);
    drag = { x: atX, y: atY, toX: atX, toY: atY, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointercancel", () => { drag = null; refresh(); });
  canvas.addEventListener("pointerup", (event) => {
    const made = drag;
    drag = null;
    if (!made) return;
    if (!made.moved) {
      const i = nearest(...at(event));
      if (i >= 0) pin(i);
    } else if (Math.abs(made.toX - made.x) > 5 && Math.abs(made.toY - made.y) > 5) {
      const width = canvas.clientWidth, height = canvas.clientHeight;
      const map = ([low, high], share) => low + share * (high - low);
      const across = [made.x / width, made.toX / width].sort((a, b) => a - b);
      const up = [1 - made.y / height, 1 - made.toY / height].sort((a, b) => a - b);
      view = { x: across.map((s) => map(view.x, s)), y: up.map((s) => map(view.y, s)) };
    }
    refresh();
  });
  canvas.addEventListener("dblclick", () => { view = whole; refresh(); });
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { for (const one of [...pins]) pin(one); view = whole; refresh(); }
    if (event.key === "a") showAll();
    const member = groups[0].labels.indexOf(event.key);
    if (member >= 0) toggle(0, member);
  });
  new ResizeObserver(refresh).observe(canvas);
  drawLegend();
  draw();
}
