"use strict";
// What needs a hand: tips, sorting, filters, maps that move. The page is complete without it.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const made = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const drawn = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const between = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

  // One tip for the whole page.
  const tip = made("div", { className: "tip", hidden: true });
  tip.setAttribute("role", "status");
  document.body.append(tip);

  function tell(words, x, y, picture = "") {
    tip.replaceChildren(...(picture ? [made("img", { src: picture, alt: "" })] : []), words);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${between(x + 14, 4, innerWidth - width - 4)}px`;
    tip.style.top = `${y + 16 + height > innerHeight ? Math.max(y - height - 10, 4) : y + 16}px`;
  }
  const silence = () => { tip.hidden = true; };

  function makeTips() {
    // A title would show beside our tip; as a description it goes on naming its chart.
    for (const title of all("svg title")) {
      if (title.parentNode.tagName === "svg") {
        const named = drawn("desc", { id: title.id });
        named.textContent = title.textContent;
        title.replaceWith(named);
      } else {
        title.parentNode.dataset.tip = title.textContent;
        title.remove();
      }
    }
    for (const image of all(".pictures img")) image.dataset.tip = image.alt;
    const over = (event) => {
      const about = event.target.closest?.("[data-tip]");
      if (about) tell(about.dataset.tip, event.clientX, event.clientY);
      else if (!event.target.closest?.(".plane")) silence();
    };
    addEventListener("pointerover", over);
    addEventListener("pointermove", over);
    addEventListener("scroll", silence, { passive: true, capture: true });
    addEventListener("keydown", (event) => { if (event.key === "Escape") silence(); });
  }

  // Tables: a click on a header sorts, another turns the order around.
  const amount = (words) => {
    const found = /^([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)\D*$/i.exec(words.replace("\u2212", "-"));
    return found ? Number(found[1].replaceAll(",", "")) : NaN;
  };

  function sort(table, column, descending) {
    const rows = all("tbody tr", table).map((row) => ({ row, words: row.cells[column]?.textContent.trim() ?? "" }));
    const told = (words) => words !== "" && words !== "\u2013";
    const known = rows.filter(({ words }) => told(words));
    const counts = known.every(({ words }) => !Number.isNaN(amount(words)));
    known.sort((a, b) => counts
      ? amount(a.words) - amount(b.words)
      : a.words.localeCompare(b.words, "en", { numeric: true }));
    if (descending) known.reverse();
    table.tBodies[0].append(...[...known, ...rows.filter(({ words }) => !told(words))].map(({ row }) => row));
  }

  function makeTable(table) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = made("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        sort(table, column, descending);
      });
    });
  }

  // Galleries: a card stays that has all tags chosen and all words looked for.
  function makeGallery(gallery) {
    const cards = all(".card", gallery).map((card) => ({
      card, tags: JSON.parse(card.dataset.tags ?? "[]"), words: card.textContent.toLowerCase(),
    }));
    const selects = all("[data-tag]", gallery);
    const looked = gallery.querySelector("[data-words]");
    const count = gallery.querySelector("output");
    const filter = () => {
      const words = looked.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const { card, tags, words: said } of cards) {
        const fits = selects.every((select, kind) => select.selectedIndex === 0 || select.value === tags[kind])
          && words.every((word) => said.includes(word));
        card.hidden = !fits;
        shown += fits;
      }
      count.textContent = `${shown.toLocaleString("en")} of ${cards.length.toLocaleString("en")}`;
    };
    gallery.addEventListener("input", filter);
    // A browser that goes back to a page puts in again what was chosen.
    filter();
  }

  // Points: maps and scatter charts.
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const floats = (text) => {
    const view = new DataView(bytes(text));
    return Float32Array.from({ length: view.byteLength / 4 }, (_, at) => view.getFloat32(4 * at, true));
  };
  const figure = (value) => Number.isNaN(value) ? "\u2013"
    : value.toLocaleString("en", { maximumSignificantDigits: 3 });

  function makePoints(root) {
    const data = JSON.parse(document.getElementById(root.dataset.points).textContent);
    const x = floats(data.x), y = floats(data.y);
    const colourings = data.colourings.map((each) => ({
      ...each, codes: new Uint8Array(bytes(each.codes)), values: each.values && floats(each.values),
    }));
    const svg = root.querySelector(".plane");
    const dots = svg.querySelector(".dots");
    const mark = drawn("g", { class: "mark" });
    const legend = root.querySelector(".legend");
    const select = root.querySelector("[data-colour]");
    const [homeLeft, homeTop, homeWidth, homeHeight] = data.home;
    const [wholeLeft, wholeTop, wholeWidth, wholeHeight] = data.whole;
    let view = { left: homeLeft, top: homeTop, width: homeWidth };
    let colouring = colourings[0];
    let hidden = new Set();
    svg.append(mark);
    svg.setAttribute("tabindex", "0");

    const height = () => view.width * homeHeight / homeWidth;
    const span = (left, size, from, extent) =>
      size >= extent ? from + (extent - size) / 2 : between(left, from, from + extent - size);

    function look(left, top, width) {
      const most = Math.max(homeWidth, Math.min(wholeWidth, wholeHeight * homeWidth / homeHeight));
      view.width = between(width, homeWidth / data.deepest, most);
      view.left = span(left, view.width, wholeLeft, wholeWidth);
      view.top = span(top, height(), wholeTop, wholeHeight);
      svg.setAttribute("viewBox", `${view.left} ${view.top} ${view.width} ${height()}`);
      svg.classList.toggle("moved", view.width < homeWidth * 0.999);
    }
    const zoom = (times, atX = view.left + view.width / 2, atY = view.top + height() / 2) => {
      const width = between(view.width / times, homeWidth / data.deepest, 1e9);
      const ratio = width / view.width;
      look(atX - (atX - view.left) * ratio, atY - (atY - view.top) * ratio, width);
    };
    const home = () => look(homeLeft, homeTop, homeWidth);
    const place = (event) => {
      const box = svg.getBoundingClientRect();
      return [view.left + (event.clientX - box.left) / box.width * view.width,
        view.top + (event.clientY - box.top) / box.height * height()];
    };
    const where = (at) => {
      const box = svg.getBoundingClientRect();
      return [box.left + (x[at] - view.left) / view.width * box.width,
        box.top + (y[at] - view.top) / height() * box.height];
    };

    // The nearest point that shows, no further than so many pixels; -1 for none.
    function nearest(atX, atY, pixels) {
      let best = -1, least = (pixels * view.width / svg.getBoundingClientRect().width) ** 2;
      for (let at = 0; at < x.length; at += 1) {
        const distance = (x[at] - atX) ** 2 + (y[at] - atY) ** 2;
        if (distance < least && !hidden.has(colouring.codes[at])) [best, least] = [at, distance];
      }
      return best;
    }
    function point(at) {
      mark.replaceChildren();
      if (at < 0) { silence(); return; }
      const d = `M${x[at]} ${y[at]}h0`;
      const [name, kind] = colouring.entries[colouring.codes[at]];
      mark.append(drawn("path", { d }), drawn("path", { d, class: kind }));
      const said = colouring.values ? figure(colouring.values[at]) : name;
      tell(`${data.label[at]}\n${colouring.name}: ${said}`, ...where(at), data.picture?.[at]);
    }
    const forget = () => { mark.replaceChildren(); silence(); };

    function colour() {
      const steps = colouring.entries.map(() => []);
      colouring.codes.forEach((code, at) => {
        if (!hidden.has(code)) steps[code].push(`M${x[at].toFixed(3)} ${y[at].toFixed(3)}h0`);
      });
      // Few above many, so that none hides another.
      const order = steps.map((_, code) => code).filter((code) => steps[code].length)
        .sort((a, b) => steps[b].length - steps[a].length);
      dots.replaceChildren(...order.map((code) =>
        drawn("path", { class: colouring.entries[code][1], d: steps[code].join("") })));
      forget();
    }
    function list() {
      legend.setAttribute("aria-label", colouring.name);
      legend.replaceChildren(...colouring.entries.map(([name, kind, count], code) => {
        const button = made("button", { type: "button" }, made("span", { className: `swatch ${kind}` }), name,
          made("small", { textContent: count.toLocaleString("en") }));
        button.setAttribute("aria-pressed", "true");
        button.addEventListener("click", () => {
          if (!hidden.delete(code)) hidden.add(code);
          button.setAttribute("aria-pressed", String(!hidden.has(code)));
          colour();
        });
        return made("li", {}, button);
      }));
    }
    const choose = () => {
      colouring = colourings[Number(select?.value ?? 0)];
      hidden = new Set();
      list();
      colour();
    };

    select?.addEventListener("change", choose);
    for (const button of all("[data-zoom]", root)) {
      button.addEventListener("click", () => {
        forget();
        if (button.dataset.zoom === "home") home();
        else zoom(button.dataset.zoom === "in" ? 1.6 : 1 / 1.6);
      });
    }
    // Without Ctrl the wheel scrolls the page, unless the map was pressed before.
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== svg) return;
      event.preventDefault();
      zoom(2 ** (-event.deltaY / 300), ...place(event));
      forget();
    }, { passive: false });

    svg.addEventListener("dblclick", (event) => {
      zoom(4, ...place(event));
      forget();
    });

    const pressed = new Map();
    let apart = 0;
    // Between two fingers, in pixels of the screen; 0 for fewer or more.
    const distance = () => {
      const [one, other] = [...pressed.values()];
      return pressed.size === 2 ? Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) : 0;
    };
    svg.addEventListener("pointerdown", (event) => {
      pressed.set(event.pointerId, event);
      apart = distance();
    });
    svg.addEventListener("pointermove", (event) => {
      const before = pressed.get(event.pointerId);
      if (!before) {
        point(nearest(...place(event), 14));
        return;
      }
      svg.setPointerCapture(event.pointerId);
      const [fromX, fromY] = place(before), [toX, toY] = place(event);
      pressed.set(event.pointerId, event);
      forget();
      if (pressed.size === 1) {
        look(view.left + fromX - toX, view.top + fromY - toY, view.width);
      } else if (pressed.size === 2) {
        const [one, other] = [...pressed.values()];
        const now = distance();
        const [oneX, oneY] = place(one), [otherX, otherY] = place(other);
        if (apart) zoom(now / apart, (oneX + otherX) / 2, (oneY + otherY) / 2);
        apart = now;
      }
    });
    const release = (event) => {
      const was = pressed.delete(event.pointerId);
      apart = distance();
      if (was && event.type === "pointerup" && event.pointerType === "touch") point(nearest(...place(event), 22));
    };
    svg.addEventListener("pointerup", release);
    svg.addEventListener("pointercancel", release);
    // A finger that lifts leaves at once, and what it pointed at should stay.
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") forget(); });

    // With the keyboard the point nearest to the middle tells.
    const middle = () => point(nearest(view.left + view.width / 2, view.top + height() / 2, 1e6));
    const keys = {
      "+": () => zoom(1.6), "=": () => zoom(1.6), "-": () => zoom(1 / 1.6), 0: home, Home: home,
      ArrowLeft: () => look(view.left - view.width / 8, view.top, view.width),
      ArrowRight: () => look(view.left + view.width / 8, view.top, view.width),
      ArrowUp: () => look(view.left, view.top - height() / 8, view.width),
      ArrowDown: () => look(view.left, view.top + height() / 8, view.width),
    };
    svg.addEventListener("keydown", (event) => {
      const move = keys[event.key];
      if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      move();
      middle();
    });
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible") && !pressed.size) middle(); });
    svg.addEventListener("blur", forget);
    choose();
  }

  // Sections: one that is folded opens when it is gone to; the list marks the one that is read.
  function makeSections() {
    const open = () => {
      const target = location.hash && document.getElementById(location.hash.slice(1));
      const folded = target && target.querySelector(":scope > details");
      if (folded) folded.open = true;
    };
    addEventListener("hashchange", open);
    open();
    const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
    const watch = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) {
        if (!isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(target.id)?.setAttribute("aria-current", "true");
      }
    }, { rootMargin: "-20% 0px -75% 0px" });
    for (const section of all("main > section")) watch.observe(section);
  }

  document.documentElement.classList.add("scripted");
  makeTips();
  all("table.sortable").forEach(makeTable);
  all(".gallery").forEach(makeGallery);
  all("[data-points]").forEach(makePoints);
  makeSections();
})();
