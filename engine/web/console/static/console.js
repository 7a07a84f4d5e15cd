// Draws the charts of a page with Chart.js from what the page says in `data-chart`; the table beside each has
// the same figures, so nothing is lost where no script runs.
"use strict";

(() => {
  const colour = (name) => getComputedStyle(probe).color || name;
  const probe = document.createElement("span");

  const toned = (tone) => {
    probe.className = "";
    probe.style.color = `var(--${tone})`; // light-dark() is resolved only where a property uses it
    return colour(tone);
  };

  const datasets = (said) => said.series.map((one) => {
    const colours = one.tones.length ? one.tones.map(toned) : toned(one.tone);
    return {
      label: one.name,
      data: one.values,
      backgroundColor: colours,
      borderColor: colours,
      borderWidth: said.kind === "line" ? 2 : 0,
      borderDash: one.dashed ? [6, 4] : [],
      pointRadius: said.kind === "line" && !one.dashed ? 2 : 0,
      borderSkipped: false,
      maxBarThickness: 28,
      categoryPercentage: 0.85,
      barPercentage: 0.95,
    };
  });

  const scale = (said, title, counts) => ({
    stacked: said.stacked,
    title: { display: Boolean(title), text: title, color: toned("muted") },
    ticks: { color: toned("text"), autoSkip: counts, maxRotation: 0, autoSkipPadding: 12 },
    grid: { color: toned("line"), display: counts },
    border: { color: toned("edge") },
  });

  const draw = (canvas) => {
    const said = JSON.parse(canvas.dataset.chart);
    const named = said.sideways ? "y" : "x";
    const counted = said.sideways ? "x" : "y";
    Chart.getChart(canvas)?.destroy();
    new Chart(canvas, {
      type: said.kind,
      data: { labels: said.labels, datasets: datasets(said) },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        indexAxis: said.sideways ? "y" : "x",
        font: { size: 13 },
        plugins: {
          legend: {
            display: said.series.length > 1,
            position: "bottom",
            labels: { color: toned("text"), boxWidth: 12, boxHeight: 12, usePointStyle: said.kind === "line", pointStyle: "line" },
          },
        },
        scales: {
          [named]: { ...scale(said, said.sideways ? said.up : said.across, false), ...(said.sideways ? {} : { ticks: { color: toned("text"), autoSkip: true, maxRotation: 45 } }) },
          [counted]: { ...scale(said, said.sideways ? said.across : said.up, true), max: said.most ?? undefined },
        },
      },
    });
  };

  const drawAll = (within) => {
    document.body.append(probe);
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.font.size = 13;
    for (const canvas of within.querySelectorAll("canvas[data-chart]")) draw(canvas);
    probe.remove();
  };

  drawAll(document);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));
  document.addEventListener("htmx:afterSettle", (event) => drawAll(event.target));
})();
