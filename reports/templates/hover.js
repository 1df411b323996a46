// The nearest named point of a figure says what it is. Without this script the browser shows its <title> instead.
{
  const tip = document.getElementById("tip"), reach = 18;  // pixels
  const names = new Map();
  let near = null;
  const leave = () => { near?.classList.remove("near"); near = null; tip.hidden = true; };
  for (const point of document.querySelectorAll("main svg .point")) {
    const title = point.querySelector("title");
    names.set(point, title.textContent);
    title.remove();  // one tip, not two
  }
  const distance = (point, event) => {
    const box = point.getBoundingClientRect();
    return Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
  };
  for (const figure of document.querySelectorAll("main figure")) {
    const points = [...figure.querySelectorAll("svg .point")].filter((point) => names.has(point));
    if (!points.length) continue;
    const look = (event) => {
      let best = null, least = reach;
      for (const point of points) {
        const away = distance(point, event);
        if (away < least) [best, least] = [point, away];
      }
      if (best === near) return;
      leave();
      if (!best) return;
      near = best;
      near.classList.add("near");
      tip.textContent = names.get(best);
      tip.hidden = false;
      const box = best.getBoundingClientRect(), size = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(8, Math.min(box.x + box.width / 2 - size.width / 2, innerWidth - size.width - 8))}px`;
      tip.style.top = `${box.y > size.height + 14 ? box.y - size.height - 8 : box.bottom + 8}px`;
    };
    figure.addEventListener("pointermove", look);
    figure.addEventListener("pointerdown", look);
    figure.addEventListener("pointerleave", leave);
  }
  addEventListener("scroll", leave, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") leave(); });
}
