"""LLVM's text of the walk that `engine.models.walking` describes; `machine_code` compiles it."""

from __future__ import annotations

from typing import Final

WALK: Final = """
%branch = type { i32, float, i32, i32, i64, i64, i64 } ; input, threshold, left, right, if_left, if_right,
  ; missing_left
%walk = type { ptr, ptr, ptr, i64 } ; branches, values, roots; how many trees
%later = type { i64, i64 } ; a branch or leaf to come back to, and who goes there

declare i64 @llvm.cttz.i64(i64, i1)

; Down all trees for up to 64 askers of one row at once: `asked` has a bit for each. A place below 0 is a
; leaf. out: what the trees add up to for each asker alone, then for all of them. Pointers are trusted.
define void @walk(ptr %walk, ptr %x, i64 %asked, ptr %out) {
entry:
  %stack = alloca [256 x %later], align 16
  %branches = load ptr, ptr %walk
  %values.at = getelementptr %walk, ptr %walk, i64 0, i32 1
  %values = load ptr, ptr %values.at
  %roots.at = getelementptr %walk, ptr %walk, i64 0, i32 2
  %roots = load ptr, ptr %roots.at
  %trees.at = getelementptr %walk, ptr %walk, i64 0, i32 3
  %trees = load i64, ptr %trees.at
  %any = icmp sgt i64 %trees, 0
  br i1 %any, label %tree, label %done

tree:
  %t = phi i64 [0, %entry], [%t.next, %tree.end]
  %common = phi double [0.0, %entry], [%common.after, %tree.end]
  %root.at = getelementptr i64, ptr %roots, i64 %t
  %root = load i64, ptr %root.at
  br label %place

place:
  %here = phi i64 [%root, %tree], [%next, %go], [%back, %pop]
  %who = phi i64 [%asked, %tree], [%next.who, %go], [%back.who, %pop]
  %depth = phi i64 [0, %tree], [%depth.next, %go], [%depth.back, %pop]
  %so.far = phi double [%common, %tree], [%so.far, %go], [%common.leaf, %pop]
  %is.leaf = icmp slt i64 %here, 0
  br i1 %is.leaf, label %leaf, label %branch

branch:
  %b.at = getelementptr %branch, ptr %branches, i64 %here
  %input = load i32, ptr %b.at
  %threshold.at = getelementptr %branch, ptr %b.at, i64 0, i32 1
  %threshold = load float, ptr %threshold.at
  %left.at = getelementptr %branch, ptr %b.at, i64 0, i32 2
  %left = load i32, ptr %left.at
  %right.at = getelementptr %branch, ptr %b.at, i64 0, i32 3
  %right = load i32, ptr %right.at
  %if.left.at = getelementptr %branch, ptr %b.at, i64 0, i32 4
  %if.left = load i64, ptr %if.left.at
  %if.right.at = getelementptr %branch, ptr %b.at, i64 0, i32 5
  %if.right = load i64, ptr %if.right.at
  %missing.at = getelementptr %branch, ptr %b.at, i64 0, i32 6
  %missing = load i64, ptr %missing.at
  %input.64 = zext i32 %input to i64
  %value.at = getelementptr float, ptr %x, i64 %input.64
  %value = load float, ptr %value.at
  %is.nan = fcmp uno float %value, %value
  %at.most = fcmp ole float %value, %threshold
  %missing.left = trunc i64 %missing to i1
  %nan.left = and i1 %is.nan, %missing.left
  %goes.left = or i1 %at.most, %nan.left
  %those.left = select i1 %goes.left, i64 %if.left, i64 %if.right
  %who.left = and i64 %who, %those.left
  %who.right = xor i64 %who, %who.left
  %none.left = icmp eq i64 %who.left, 0
  %left.64 = sext i32 %left to i64
  %right.64 = sext i32 %right to i64
  %next = select i1 %none.left, i64 %right.64, i64 %left.64
  %next.who = select i1 %none.left, i64 %who.right, i64 %who.left
  %none.right = icmp eq i64 %who.right, 0
  %one.way = or i1 %none.left, %none.right
  br i1 %one.way, label %go, label %push

push:
  %top.at = getelementptr [256 x %later], ptr %stack, i64 0, i64 %depth
  store i64 %right.64, ptr %top.at
  %top.who.at = getelementptr %later, ptr %top.at, i64 0, i32 1
  store i64 %who.right, ptr %top.who.at
  %depth.more = add i64 %depth, 1
  br label %go

go:
  %depth.next = phi i64 [%depth, %branch], [%depth.more, %push]
  br label %place

leaf:
  %leaf.number = xor i64 %here, -1
  %leaf.at = getelementptr double, ptr %values, i64 %leaf.number
  %leaf.value = load double, ptr %leaf.at
  %for.all = icmp eq i64 %who, %asked
  br i1 %for.all, label %leaf.all, label %leaf.each

leaf.all:
  %common.more = fadd double %so.far, %leaf.value
  br label %leaf.end

leaf.each:
  %w = phi i64 [%who, %leaf], [%w.less, %leaf.each]
  %asker = call i64 @llvm.cttz.i64(i64 %w, i1 true)
  %out.at = getelementptr double, ptr %out, i64 %asker
  %sum = load double, ptr %out.at
  %sum.more = fadd double %sum, %leaf.value
  store double %sum.more, ptr %out.at
  %w.minus = sub i64 %w, 1
  %w.less = and i64 %w, %w.minus
  %w.none = icmp eq i64 %w.less, 0
  br i1 %w.none, label %leaf.end, label %leaf.each

leaf.end:
  %common.leaf = phi double [%common.more, %leaf.all], [%so.far, %leaf.each]
  %nothing.later = icmp eq i64 %depth, 0
  br i1 %nothing.later, label %tree.end, label %pop

pop:
  %depth.back = sub i64 %depth, 1
  %back.at = getelementptr [256 x %later], ptr %stack, i64 0, i64 %depth.back
  %back = load i64, ptr %back.at
  %back.who.at = getelementptr %later, ptr %back.at, i64 0, i32 1
  %back.who = load i64, ptr %back.who.at
  br label %place

tree.end:
  %common.after = phi double [%common.leaf, %leaf.end]
  %t.next = add i64 %t, 1
  %more = icmp slt i64 %t.next, %trees
  br i1 %more, label %tree, label %done

done:
  %total = phi double [0.0, %entry], [%common.after, %tree.end]
  %common.at = getelementptr double, ptr %out, i64 64
  store double %total, ptr %common.at
  ret void
}
"""
