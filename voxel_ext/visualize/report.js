"use strict";
// sliders over the slices of a volume
for (const viewer of document.querySelectorAll(".viewer")) {
  const frames = JSON.parse(viewer.querySelector("script").textContent);
  const range = viewer.querySelector("input[type=range]");
  const show = () => {
    const position = Number(range.value);
    for (const layer of viewer.querySelectorAll("[data-layer]")) layer.src = frames[layer.dataset.layer][position];
    viewer.querySelector("output").textContent = "slice " + frames.slices[position];
  };
  range.addEventListener("input", show);
  for (const box of viewer.querySelectorAll("input[type=checkbox]")) {
    const layer = viewer.querySelector("[data-layer=" + box.value + "]");
    const toggle = () => { layer.hidden = !box.checked; };
    box.addEventListener("change", toggle);
    toggle();
  }
  const play = viewer.querySelector("button");
  let timer = null;
  play.addEventListener("click", () => {
    if (timer === null) {
      timer = setInterval(() => { range.value = (Number(range.value) + 1) % frames.slices.length; show(); }, 90);
    } else {
      clearInterval(timer);
      timer = null;
    }
    play.textContent = timer === null ? "Play" : "Stop";
  });
  show();
}
// search in the settings
for (const search of document.querySelectorAll("input[type=search]")) {
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    for (const row of search.closest("section").querySelectorAll("tbody tr")) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  });
}
// paper cannot be unfolded
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
