"use strict";
// Each .viewer shows one of its structures; window.godeltaViewers lets people script them.
window.godeltaViewers = Array.from(document.querySelectorAll(".viewer"), (root) => {
  const structures = JSON.parse(root.querySelector(".scene").textContent);
  const find = (name) => root.querySelector(name);
  const which = find(".which"), repeat = find(".repeat"), stage = find(".stage"), about = find(".about");
  let viewer = null;
  try {
    viewer = $3Dmol.createViewer(stage, { backgroundColor: "white", antialias: true, disableFog: true });
  } catch (error) {
    viewer = null;
  }
  if (!viewer) {
    stage.hidden = true;
    find(".trouble").hidden = false;
    find(".trouble").textContent = "This browser has no WebGL, which the picture needs. The structures can be saved below.";
  }

  function atomsOf(one) {
    const lines = one.xyz.split("\n");
    const count = parseInt(lines[0], 10);
    return lines.slice(2, 2 + count).map((line) => {
      const [elem, x, y, z] = line.trim().split(/\s+/);
      return { elem, at: [Number(x), Number(y), Number(z)] };
    });
  }

  function copies(one) {
    const n = one.cell ? Number(repeat.value) : 1;
    const steps = (axis) => (one.pbc[axis] ? n : 1);
    const shifts = [];
    for (let i = 0; i < (one.cell ? steps(0) : 1); i++)
      for (let j = 0; j < (one.cell ? steps(1) : 1); j++)
        shifts.push([0, 1, 2].map((k) => (one.cell ? i * one.cell[0][k] + j * one.cell[1][k] : 0)));
    return shifts;
  }

  function line(a, b) {
    const point = (v) => ({ x: v[0], y: v[1], z: v[2] });
    viewer.addCylinder({ start: point(a), end: point(b), radius: 0.035, color: "#8a8f98", fromCap: 1, toCap: 1 });
  }

  // Of a slab's vacuum little is drawn: else the slab would be small.
  function heights(cell, atoms) {
    const [a, b, c] = cell;
    const normal = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    const along = (v) => v[0] * normal[0] + v[1] * normal[1] + v[2] * normal[2];
    const found = atoms.map((atom) => along(atom.at) / along(c));
    const margin = 1.5 / Math.hypot(...c);
    const low = Math.max(0, Math.min(...found) - margin), high = Math.min(1, Math.max(...found) + margin);
    return high - low > 0.8 ? [0, 1] : [low, high];
  }

  function drawCell(cell, atoms) {
    const ends = [[0, 1], [0, 1], heights(cell, atoms)];
    const corner = (bits) => {
      const parts = bits.map((bit, axis) => ends[axis][bit]);
      return [0, 1, 2].map((k) => cell[0][k] * parts[0] + cell[1][k] * parts[1] + cell[2][k] * parts[2]);
    };
    for (let axis = 0; axis < 3; axis++)
      for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
        const from = [u, v], to = [u, v];
        from.splice(axis, 0, 0);
        to.splice(axis, 0, 1);
        line(corner(from), corner(to));
      }
  }

  function bonded(atoms, kinds) {
    const reach = 1.2 * 2 * Math.max(...Object.values(kinds).map((kind) => kind.radius));
    const cells = new Map();
    const key = (p) => p.map((x) => Math.floor(x / reach)).join();
    atoms.forEach((atom, i) => {
      const k = key(atom.at);
      cells.set(k, (cells.get(k) || []).concat(i));
    });
    return atoms.map((atom, i) => {
      const found = [];
      const place = atom.at.map((x) => Math.floor(x / reach));
      for (let a = -1; a <= 1; a++) for (let b = -1; b <= 1; b++) for (let c = -1; c <= 1; c++)
        for (const j of cells.get([place[0] + a, place[1] + b, place[2] + c].join()) || []) {
          const other = atoms[j];
          const limit = 1.2 * (kinds[atom.elem].radius + kinds[other.elem].radius);
          if (j !== i && Math.hypot(...atom.at.map((x, k) => x - other.at[k])) < limit) found.push(j);
        }
      return found;
    });
  }

  function draw(keep) {
    const one = structures[Number(which.value)];
    about.replaceChildren(...one.facts.map(([name, value]) => {
      const row = document.createElement("div");
      for (const [tag, text] of [["dt", name], ["dd", value]]) {
        const cell = document.createElement(tag);
        cell.textContent = text;
        row.append(cell);
      }
      return row;
    }));
    find(".periodic").hidden = !one.cell;
    if (!viewer) return;
    const view = keep ? viewer.getView() : null;
    viewer.removeAllModels();
    viewer.removeAllShapes();
    const fixed = new Set(one.fixed);
    const atoms = copies(one).flatMap((shift) => atomsOf(one).map((atom, i) => ({
      elem: atom.elem, fixed: fixed.has(i), at: atom.at.map((x, k) => x + shift[k]),
    })));
    const bonds = bonded(atoms, one.kinds);
    const model = viewer.addModel();
    model.addAtoms(atoms.map((atom, i) => ({
      elem: atom.elem, x: atom.at[0], y: atom.at[1], z: atom.at[2], serial: i, index: i, hetflag: true,
      bonds: bonds[i], bondOrder: bonds[i].map(() => 1), properties: { fixed: atom.fixed },
    })));
    for (const [elem, kind] of Object.entries(one.kinds)) {
      viewer.setStyle({ elem }, {
        sphere: { radius: 0.55 * kind.radius, color: kind.colour }, stick: { radius: 0.09, color: kind.colour },
      });
    }
    if (one.cell) drawCell(one.cell, atoms);
    if (view) viewer.setView(view); else home(one);
    viewer.render();
  }

  function home(one) {
    viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
    viewer.rotate(20, "z");
    viewer.rotate(-72, "vx");
    viewer.zoomTo();
    viewer.zoom(one.cell ? 1 : 1.4);
  }

  function choose(step) {
    which.value = String((Number(which.value) + step + structures.length) % structures.length);
    draw(true);
  }

  which.addEventListener("change", () => draw(true));
  repeat.addEventListener("change", () => draw(false));
  find(".before")?.addEventListener("click", () => choose(-1));
  find(".after")?.addEventListener("click", () => choose(1));
  find(".home").addEventListener("click", () => draw(false));
  find(".top").addEventListener("click", () => {
    if (!viewer) return;
    viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
    viewer.zoomTo();
    viewer.render();
  });
  stage.addEventListener("keydown", (event) => {
    const turns = { ArrowLeft: [-10, "vy"], ArrowRight: [10, "vy"], ArrowUp: [-10, "vx"], ArrowDown: [10, "vx"] };
    if (!viewer || !(event.key in turns || event.key === "+" || event.key === "-")) return;
    event.preventDefault();
    if (event.key in turns) viewer.rotate(...turns[event.key]);
    else viewer.zoom(event.key === "+" ? 1.15 : 1 / 1.15);
    viewer.render();
  });
  draw(false);
  return viewer;
});
