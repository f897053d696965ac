"use strict";
// The page is complete without it: this only searches, filters, opens what an address names, and copies commands.
(() => {
  const one = (selector) => document.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const cards = all(".requirement");
  const chips = all(".chip");
  const texts = new Map();

  const text = (card) => {
    if (!texts.has(card)) {
      const parts = all("summary, .about, .elsewhere, .note", card).map((each) => each.textContent);
      texts.set(card, parts.join(" ").toLowerCase());
    }
    return texts.get(card);
  };

  const filter = () => {
    const words = one("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdicts = chips.filter((each) => each.ariaPressed === "true").map((each) => each.dataset.verdict);
    const wanted = { class: one("#class").value, feature: one("#feature").value };
    let shown = 0;
    for (const card of cards) {
      const data = card.dataset;
      const fits =
        (!verdicts.length || verdicts.includes(data.verdict)) &&
        Object.entries(wanted).every(([name, value]) => !value || data[name] === value) &&
        words.every((word) => text(card).includes(word));
      card.hidden = !fits;
      shown += fits;
    }
    for (const group of all(".group")) {
      group.hidden = all(".requirement", group).every((each) => each.hidden);
    }
    one("#shown").textContent =
      shown === cards.length ? `${shown} requirements` : `${shown} of ${cards.length} requirements`;
    one("#nothing").hidden = shown > 0;
  };

  const showAll = () => {
    chips.forEach((each) => (each.ariaPressed = "false"));
    one(".filters").reset();
    filter();
  };

  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || target.id === "main") return;
    if (target.closest("[hidden]")) showAll();
    for (let each = target; each; each = each.parentElement) {
      if (each.matches("details")) each.open = true;
    }
    target.scrollIntoView();
    const focusable = target.querySelector("summary, a") || target;
    focusable.focus({ preventScroll: true });
  };

  const copy = async (button) => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // where a page may not write, the reader copies the selection
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };

  if (cards.length) {
    const form = one(".filters");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => {
      chips.forEach((each) => (each.ariaPressed = "false"));
      setTimeout(filter); // once the fields are empty
    });
    for (const chip of chips) {
      chip.addEventListener("click", () => {
        chip.ariaPressed = String(chip.ariaPressed !== "true");
        filter();
      });
    }
    const fold = (open) => cards.filter((each) => !each.hidden).forEach((each) => (each.open = open));
    one("#unfold").addEventListener("click", () => fold(true));
    one("#fold").addEventListener("click", () => fold(false));
  }
  const rows = all(".row");
  if (rows.length) {
    const form = one(".filters");
    const narrow = () => {
      const words = one("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
      const fits = (row) =>
        (!one("#red-only").checked || row.querySelector(".red")) &&
        words.every((word) => row.querySelector("th").textContent.toLowerCase().includes(word));
      rows.forEach((row) => (row.hidden = !fits(row)));
      for (const group of all(".group")) group.hidden = all(".row", group).every((row) => row.hidden);
      const shown = rows.filter((row) => !row.hidden).length;
      one("#shown").textContent = `${shown} of ${rows.length} requirements`;
      one("#nothing").hidden = shown > 0;
    };
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", narrow);
    narrow();
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".copy");
    if (button) copy(button);
    const link = event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) reveal(); // the address doesn't change, the page still follows
  });
  addEventListener("hashchange", reveal);
  addEventListener("beforeprint", () => all(".requirement.fail, .requirement.set-up-error").forEach((each) => (each.open = true)));
  addEventListener("load", reveal); // not before: the browser itself goes to the address, and takes the focus away
})();
