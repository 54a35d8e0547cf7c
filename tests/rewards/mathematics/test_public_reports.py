"""Forms that public graders' bug reports are about, each with its nearest wrong neighbours, and a hostile policy's texts.

A row is a question, its reference, answers that are right, and answers that are wrong.
"""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

Row = tuple[str, str, tuple[str, ...], tuple[str, ...]]

BOXED: tuple[Row, ...] = (
    ('', '$28\\%$', (
        '0.28',
    ), (
        '0.0028',
    )),
    ('', '\\begin{pmatrix} 1 \\\\ -2 \\\\ 3 \\end{pmatrix}', (
        '(1,-2,3)^T', '\\langle 1,-2,3\\rangle', '\\begin{bmatrix} 1 \\\\ -2 \\\\ 3 \\end{bmatrix}',
        '\\begin{pmatrix}1\\\\-2\\\\3\\\\\\end{pmatrix}',
    ), (
        '\\begin{pmatrix} 1 \\\\ 2 \\\\ 3 \\end{pmatrix}', '\\begin{pmatrix} 1 \\\\ -2 \\end{pmatrix}',
    )),
    ('', '0.006', (
        '6 \\times 10^{-3} \\, m/s^2', '6 \\times 10^{-3}',
    ), (
    )),
    ('', '4e16', (
        '4 \\times 10^{16} \\text{ erg/s}', '4 \\times 10^{16}',
    ), (
    )),
    ('', 'np.arcsin(10/13)', (
        '\\arcsin(10/13)',
    ), (
    )),
    ('', '5', (
    ), (
        '5=5', '−5', '－5', '—5', 'x', 'x=x', 'a',
    )),
    ('', '42', (
    ), (
        '\\color{white}42', '\\textcolor{white}{42}',
    )),
    ('', '1', (
        '1', '1.0', '\\text{one}', '+1', '100\\%',
    ), (
        '1=1', '2½', '1+10^{-50}', '0.99999999999999999999999', '\\cos(10^{-20})',
    )),
    ('', '20:34', (
        '8:34 \\text{ P.M.}', '20:34',
    ), (
        '8:34 \\text{ a.m.}', '20:43', '8:34',
    )),
    ('', '\\frac{1}{432}', (
        '2.314814814815 \\times 10^{-3}',
    ), (
    )),
    ('', '0', (
        '0', '0.0', '-0', '\\text{zero}', '0.00',
    ), (
        '0=0', 'x^2 - x^2', '\\frac00', '\\frac{0}{0}', '\\text{NaN}', '\\infty-\\infty', '\\frac{1}{\\infty}',
    )),
    ('', '(1,2)', (
        'i+2j', '(1,2)^T', '\\mathbf{i}+2\\mathbf{j}', '\\begin{pmatrix}1\\\\2\\end{pmatrix}', '2j+i',
    ), (
        '(1,2,3)', '[1,2]', '(2,1)', '\\{1,2\\}', '[1,2]',
    )),
    ('', '\\text{Yes}', (
        '\\text{Yes, it is}', 'yes', '\\text{yes}', 'Yes.',
    ), (
        '\\text{No}', '\\text{Yes and no}', '\\text{Yes or no}', '\\text{maybe}', '\\text{Yes, no}',
    )),
    ('', 'x = \\frac{\\pi}{4} + k\\pi, k \\in \\mathbb{Z}', (
        'x = \\frac{\\pi}{4} + n\\pi, n \\in \\mathbb{Z}', '\\frac{\\pi}{4}+k\\pi',
        'x=k\\pi+\\frac{\\pi}{4} \\; (k \\in \\mathbb{Z})',
        '\\left\\{\\frac{\\pi}{4}+k\\pi \\mid k\\in\\mathbb{Z}\\right\\}',
    ), (
        'x = \\frac{\\pi}{4} + 2k\\pi, k\\in\\mathbb{Z}', '\\frac{\\pi}{4}', 'x=\\frac{\\pi}{3}+k\\pi',
    )),
    ('', '(-\\infty, -1) \\cup (1, \\infty)', (
        '\\{x \\mid x<-1 \\text{ or } x>1\\}', 'x<-1 \\text{ or } x>1', 'x \\in (-\\infty,-1) \\cup (1,+\\infty)',
        'x>1 \\text{ or } x<-1', '(1,\\infty)\\cup(-\\infty,-1)',
    ), (
        '-1<x<1', '(-1,1)', 'x>1', 'x<-1 \\text{ and } x>1', '(-\\infty,-1]\\cup[1,\\infty)', '(-\\infty,-1),(1,2)',
    )),
    ('', '\\text{DNE}', (
        '\\text{The limit does not exist}', '\\text{does not exist}',
    ), (
        '0', '\\infty', '\\text{exists}',
    )),
    ('', '\\text{no solution}', (
        '\\text{none}', '\\emptyset', '\\text{No solutions.}',
    ), (
        '0', '\\text{one solution}', '\\text{infinitely many solutions}', '\\text{no solution or } 5',
    )),
    ('', 'A, C', (
        'AC', 'A、C', 'AC', 'A,C', 'C, A', '\\text{A and C}', '\\text{(A), (C)}', 'A, C', 'A and C',
    ), (
        'A', 'A, B, C', 'B, C', 'AB', 'A, B', 'AB',
    )),
    ('', '①③', (
        '①③', '①, ③',
    ), (
        '①②③', '①', '②④', '13',
    )),
    ('', 'P(-2, 3)', (
        '(-2,3)', 'P=(-2,3)',
    ), (
        'Q(-2,3)', '(3,-2)', '(2,3)', 'P(2,-3)',
    )),
    ('', '\\overrightarrow{AB}=(1,2)', (
        '(1,2)', '\\vec{AB}=(1,2)', '\\langle 1,2\\rangle',
    ), (
    )),
    ('', '\\langle 1,2\\rangle', (
        '(1,2)', '\\begin{pmatrix}1\\\\2\\end{pmatrix}', '\\mathbf{i}+2\\mathbf{j}', 'i+2j',
    ), (
        '(2,1)', '\\langle 1,-2\\rangle', '1,2', '3',
    )),
    ('', '3\\mathbf{i} - 4\\mathbf{j}', (
        '\\langle 3,-4\\rangle', '(3,-4)', '3\\hat{i}-4\\hat{j}', '3\\vec{i}-4\\vec{j}', '3i-4j',
    ), (
        '3i+4j', '-4i+3j', '5', '(−4,3)',
    )),
    ('', '1010_2', (
        '1010_{\\text{base }2}', '1010_{2}', '(1010)_2', '1010_{\\text{two}}', '1010 \\text{ (base 2)}',
    ), (
        '10', '1010', 'A_{16}', '1010_{10}', '12_8', '1010_3',
    )),
    ('', '3:30', (
        '3{:}30', '3:30', '03:30',
    ), (
        '3.5', '7:60', '3:03', '30:3', '330', '15:30',
    )),
    ('', '\\text{3:30 PM}', (
        '15:30', '3:30 \\text{ p.m.}', '3:30\\text{PM}', '3:30 \\, \\text{pm}',
    ), (
        '3:30 \\text{ AM}', '3:31\\text{ PM}', '5:30 \\text{ PM}',
    )),
    ('', '2 \\text{ hours } 30 \\text{ minutes}', (
        '2\\text{ hr }30\\text{ min}', '2\\text{h }30\\text{min}', '2 \\text{ hours and } 30 \\text{ minutes}',
        '2 \\text{ h } 30 \\text{ min}', '2 hours 30 minutes',
    ), (
        '2.3 \\text{ hours}', '230 \\text{ minutes}', '30 \\text{ hours } 2\\text{ minutes}', '2.5\\text{ minutes}',
        '30 \\text{ hours } 2 \\text{ minutes}', '2 \\text{ hours } 3 \\text{ minutes}',
    )),
    ('', '\\text{March 5, 2020}', (
        '5 \\text{ March } 2020', '\\text{March 5, 2020}', '\\text{March 5th, 2020}',
    ), (
        '\\text{March 6, 2020}', '\\text{May 3, 2020}', '3/5/2021', '\\text{March 5, 2021}', '\\text{March 2020}',
    )),
    ('', '\\log_{10} 2', (
        '0.301030', '\\log_{10}2', '\\lg 2',
    ), (
        '\\ln 2', '\\log_2 10',
    )),
    ('', '\\frac{\\pi}{3}', (
    ), (
        '\\frac{\\pi}{3}^\\circ', '60', '\\frac{180}{3}',
    )),
    ('Express 0.35 as a common fraction.', '\\frac{7}{20}', (
        '\\frac{7}{20}', '7/20',
    ), (
        '3.5\\times10^{-1}', '0.35', '35\\%', '.35', '\\frac{0.35}{1}', '\\frac{35}{100}', '0.350',
    )),
    ('Factor $x^2-9$.', '(x-3)(x+3)', (
        '(x-3)(x+3)', '(x+3)(x-3)', '-(3-x)(x+3)',
    ), (
        '\\sqrt{x^2-9}^2', 'x^2-9', '-9+x^2', 'x^2-3^2', '(x^2-9)', '1(x^2-9)', 'x\\cdot x-9',
    )),
    ('Solve for x: $2x + 3 = 11$.', '4', (
        'x=4', '4=x', '4',
    ), (
        '2x+3=11', '2x=8', 'x = \\frac{11-3}{2}', '\\frac{11-3}{2}', 'x=\\frac{8}{2}', '2(4)+3=11',
    )),
    ('What is $5!$?', '120', (
        '5!=120', '120',
    ), (
        '5!', '5\\cdot4!', '5\\cdot4\\cdot3\\cdot2\\cdot1', '1\\cdot2\\cdot3\\cdot4\\cdot5', '(3+2)!', '\\Gamma(6)',
    )),
    ('Find $\\frac{d}{dx} x^3$.', '3x^2', (
        '3x^2', '3x^{2}',
    ), (
        '3\\cdot x\\cdot x', '\\frac{d}{dx}x^3', "(x^3)'", '\\lim_{h\\to0}\\frac{(x+h)^3-x^3}{h}', '3x^{3-1}',
        'x^2+2x^2',
    )),
    ('How many dollars is 350 cents?', '3.5', (
        '3.5', '\\$3.50', '3.50 \\text{ dollars}',
    ), (
        '350\\div 100', '\\frac{350}{100}', '350 \\text{ cents}', '350',
    )),
    ('Convert 2.5 hours to minutes.', '150', (
        '150', '150 \\text{ minutes}', '150\\text{ min}',
    ), (
        '150 \\text{ hours}', '2.5 \\text{ hours}', '2.5\\times60', '2.5', '2.5\\cdot 60 \\text{ minutes}',
    )),
    ('Convert $45^\\circ$ to radians.', '\\frac{\\pi}{4}', (
        '\\frac{\\pi}{4}', '\\pi/4', '\\frac{\\pi}{4}\\text{ radians}',
    ), (
        '45\\cdot\\frac{\\pi}{180}', '\\frac{45\\pi}{180}', '45^\\circ', '45',
    )),
    ('Find the prime factorization of 360.', '2^3 \\cdot 3^2 \\cdot 5', (
        '2^3\\cdot3^2\\cdot5', '5\\cdot 3^2\\cdot 2^3', '2^3 \\times 3^2 \\times 5^1',
    ), (
        '360', '36\\cdot10', '8\\cdot9\\cdot5', '2\\cdot180', '2^3\\cdot 45', '6^2\\cdot10', '72\\cdot 5',
    )),
    ('Simplify $(3x^2)^3$.', '27x^6', (
        '27x^6', '27x^{6}',
    ), (
        '27(x^2)^3', '(3x^2)^3', '3^3x^6', '3^3(x^2)^3', '27x^{2\\cdot3}', '(3x^2)(3x^2)(3x^2)', '9x^4\\cdot3x^2',
    )),
    ('Simplify $i^{27}$.', '-i', (
        '-1i', '-i',
    ), (
        'i^{27}', 'i^3', 'i^{24}i^3', '\\frac{1}{i}', 'i^{-1}',
    )),
    ('Find the vertex form of $y=x^2-6x+11$.', 'y=(x-3)^2+2', (
        '(x-3)^2+2', 'y=(x-3)^2+2', 'y = 2+(x-3)^2',
    ), (
        'y=x^2-6x+11', 'y=x^2-6x+9+2', 'y=x(x-6)+11', 'x^2-6x+11',
    )),
    ('', '\\text{Alice: } 5, \\text{Bob: } 7', (
        '5,7', '\\text{Alice: } 5, \\text{Bob: } 7',
    ), (
        '\\text{Bob: } 5, \\text{Alice: } 7', '7,5',
    )),
    ('', '(-oo, 5)', (
        '(-\\infty,5)',
    ), (
        '(-\\infty,5]', '(\\infty,5)',
    )),
    ('', 'oo', (
        '\\infty',
    ), (
    )),
    ('', '2*I', (
        '2i',
    ), (
    )),
    ('', 'atan(1/2)', (
        '\\arctan\\frac12',
    ), (
    )),
    ('', 'asin(x)', (
        '\\arcsin x',
    ), (
    )),
    ('', 'sqrt(3)*I/2 + 1/2', (
        '\\frac{1+i\\sqrt3}{2}',
    ), (
    )),
    ('', 'Rational(1,2)', (
        '\\frac12',
    ), (
    )),
    ('', 'cbrt(5)', (
        '\\sqrt[3]{5}',
    ), (
    )),
    ('', 'factorial(10)', (
        '3628800',
    ), (
    )),
    ('', 'binomial(10,3)', (
        '\\binom{10}{3}', '120',
    ), (
    )),
    ('', 'Matrix([[1,2],[3,4]])', (
        '\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}',
    ), (
    )),
    ('', 'y = 3*cos(2*t)', (
        'y(t)=3\\cos 2t', '3\\cos(2t)',
    ), (
    )),
    ('', '$(2,3),(3,2)$', (
        '(x,y)\\in\\{(2,3),(3,2)\\}', '(3,2),(2,3)', '(x,y)=(2,3),(3,2)', '(2,3) \\text{ and } (3,2)',
    ), (
        '(2,3)', '(2,3),(2,3)', '2,3',
    )),
    ('', '$f(x)=0$, $f(x)=x$', (
        'f(x) \\equiv 0 \\text{ and } f(x)=x', 'f(x)=0, f(x)=x', 'f(x)=x \\text{ and } f(x)=0',
        'f(x)=0 \\text{ or } f(x)=x', 'f(x) = x, f(x)=0',
    ), (
        'f(x)=x', 'f(x)=0', 'f(x)=0,x^2',
    )),
    ('', '3 m/s', (
        '3\\text{ m/s}', '3',
    ), (
    )),
    ('', '-2或3', (
        '-2, 3', 'x=-2\\text{ 或 }x=3',
    ), (
    )),
    ('', 'x=-2或x=3', (
        '-2,3', 'x=3, x=-2',
    ), (
    )),
    ('Solve for $x$: $3x - 7 = 2x + 5$.', 'x=12', (
        '12', 'x=12', '12=x',
    ), (
        '3x-7=2x+5', 'x=5+7', 'x=2x+5-2x+7', '3x-2x=12', 'x-12=0',
    )),
    ('Find the area of a triangle with base 10 and height 7.', '35', (
        '35', '35 \\text{ square units}', '\\frac{1}{2}\\cdot 10\\cdot 7 = 35', 'A=35',
    ), (
        '35\\text{ cm}^3', '\\frac12\\cdot10\\cdot7', '\\frac{10\\cdot7}{2}', '\\frac{70}{2}', '5\\cdot7',
        '\\frac{10 \\times 7}{2} \\text{ square units}',
    )),
    ('A car travels 150 miles in 3 hours. What is its average speed in miles per hour?', '50', (
        '50', '50 \\text{ mph}', '50 \\text{ miles per hour}', '50\\text{ miles/hour}',
    ), (
        '50\\text{ hours}', '\\frac{150}{3}', '150/3', '150 \\div 3', '\\frac{150 \\text{ miles}}{3 \\text{ hours}}',
        '50 \\text{ km/h}',
    )),
    ('Find $\\int 2x\\,dx$.', 'x^2+C', (
        'x^2+C', 'x^2+c', 'C+x^2', 'x^2 + K',
    ), (
        '2\\cdot\\frac{x^2}{2}+C', '\\int 2x\\,dx', '2\\int x\\,dx', 'x^2+C+\\int 0 dx', 'x^2-C^2',
    )),
    ('Find the inverse of $f(x)=2x+3$.', 'f^{-1}(x)=\\frac{x-3}{2}', (
        'y=\\frac{x-3}{2}', 'f^{-1}(x)=\\frac{x-3}{2}', '\\frac{x-3}{2}', '\\frac12x-\\frac32',
    ), (
        'f^{-1}(x)', 'y=2x+3', 'x=2y+3', 'f(x)=2x+3', '\\frac{1}{2x+3}',
    )),
    ('Find the roots of $x^2+4=0$.', '\\pm 2i', (
        '\\pm2i', '2i,-2i', 'x=\\pm 2i',
    ), (
        '\\pm\\sqrt{-4}', '\\sqrt{-4}', '2i', 'x^2=-4', '\\pm i\\sqrt4', '\\pm2',
    )),
    ('In which quadrant is the point $(-3, 4)$?', 'II', (
        '\\text{Quadrant II}', 'II', '\\text{II}',
    ), (
        '(-3,4)', 'I', '\\text{I or II}', 'III',
    )),
    ('Is 91 prime?', 'No', (
        '\\text{No, it is not}', '\\text{No}', 'no', '\\text{No.}',
    ), (
        'Yes', '\\text{Yes and no}', '91', '\\text{maybe}', '7\\cdot13',
    )),
    ('What is the measure of each interior angle of a regular hexagon, in degrees?', '120', (
        '120', '120^\\circ', '120 \\text{ degrees}',
    ), (
        '120\\text{ cm}', '\\frac{(6-2)180}{6}', '\\frac{720}{6}', '\\frac{2\\pi}{3}', '180-60',
        '120\\text{ radians}',
    )),
    ('What is the probability of rolling a 6 on a fair die?', '\\frac16', (
        '\\frac16', '1/6', '0.166667', '0.1\\overline{6}', '\\frac{1}{6} \\approx 0.1667',
    ), (
        '1:6', '6', '1 \\text{ in } 5', '\\frac{6}{1}', '16.6\\%', '0.16', '0.17',
    )),
    ('Simplify $\\frac{2x^2y}{4xy^2}$.', '\\frac{x}{2y}', (
        '\\frac{x}{2y}', '\\frac{1}{2}\\cdot\\frac{x}{y}', 'x/(2y)',
    ), (
        '\\frac{x^2y}{2xy^2}', '\\frac{x\\cdot x y}{2xy^2}', '\\frac{2x^2y}{4xy^2}', '\\frac{2x}{4y}',
        '0.5x^{2}y x^{-1}y^{-2}',
    )),
    ('Convert 72 km/h to m/s.', '20', (
        '20 \\text{ m/s}', '20\\text{ meters per second}', '20',
    ), (
        '20 \\text{ km/h}', '72', '72\\text{ km/h}', '\\frac{72}{3.6}', '72\\cdot\\frac{1000}{3600}', '72\\div3.6',
    )),
    ('Convert 5 feet to inches.', '60', (
        '60', '60\\text{ inches}', '60 \\text{ in}',
    ), (
        '60\\text{ feet}', '5', '5 \\text{ feet}', '5\\cdot12', '5\\times 12 \\text{ inches}',
    )),
    ('Compute $1001_2 + 110_2$ in base 2.', '1111_2', (
        '1111', '1111_2', '1111_{\\text{two}}',
    ), (
        '1001_2+110_2', '15', 'F_{16}', '1111_3', '17_8',
    )),
    ('', 'x = k\\pi, k \\in \\mathbb{Z}', (
        'k\\pi', 'x=n\\pi, n\\in\\mathbb{Z}', 'x=m\\pi \\text{ where } m \\in \\mathbb{Z}',
        'x = \\pi k, k \\in \\mathbb Z', '\\{x \\mid x = k\\pi, k\\in\\mathbb{Z}\\}',
        'x = n\\pi \\text{ for } n \\in \\mathbb{Z}', 'x=n\\pi\\ (n\\in\\mathbb{Z})',
        'x=k\\pi \\text{ for any integer } k',
    ), (
        'x=2k\\pi, k\\in\\mathbb{Z}', 'k\\pi, k \\in \\mathbb{N}', 'x=\\pi', 'x=0', 'x=n\\pi, n \\in \\mathbb{R}',
        'k=x\\pi',
    )),
    ('', '\\{3k \\mid k \\in \\mathbb{Z}\\}', (
        '\\{3n \\mid n \\in \\mathbb{Z}\\}', '\\{3k \\mid k\\in\\mathbb{Z}\\}', '\\{3k : k \\in \\mathbb{Z}\\}',
    ), (
        '\\{3k\\mid k\\in\\mathbb{N}\\}', '\\{2k\\mid k\\in\\mathbb{Z}\\}', '\\{3\\}', '3',
    )),
    ('', '5 \\text{ ft } 8 \\text{ in}', (
        '5 \\text{ feet } 8 \\text{ inches}', '5 \\text{ feet, } 8 \\text{ inches}',
    ), (
        '8 \\text{ ft } 5 \\text{ in}', '5.8 \\text{ ft}', '58\\text{ in}',
    )),
    ('', '3x^2', (
        '3x^2', '3 x^{2}',
    ), (
        '3 \\cdot x \\cdot x', '3x x', '3x^1 x', 'x^2+2x^2',
    )),
    ('', 'x^2y^2', (
        'x^2y^2', '(xy)^2', 'y^2x^2',
    ), (
        'x x y y',
    )),
    ('', 'x^6', (
        'x^6',
    ), (
        '(x^2)^3', '(x^3)^2',
    )),
    ('Solve for $x$: $x^2=9$', '3,-3', (
        'x=\\pm3', 'x=3,-3', '3,-3', '\\pm3',
    ), (
        'x^2=9',
    )),
    ('Solve for $y$: $2x+y=5$', 'y=5-2x', (
        '5-2x', 'y=5-2x', 'y=-2x+5',
    ), (
        '2x+y=5', '2x=5-y',
    )),
    ('Solve $3x+1=10$ for $x$.', '3', (
        'x=3', '3',
    ), (
        '3x=9', 'x=\\frac93',
    )),
    ('Write $y=x^2+4x+1$ in vertex form.', 'y=(x+2)^2-3', (
        '(x+2)^2-3', 'y=(x+2)^2-3',
    ), (
        'y=x^2+4x+1', 'y=x(x+4)+1',
    )),
    ('An arc of 40 degrees in a circle of radius 9. Its length?', '2\\pi', (
        '2\\pi', '6.28319',
    ), (
        '\\frac{40\\pi}{20}', '\\frac{40}{360}\\cdot18\\pi', '\\frac{40\\cdot 18\\pi}{360}',
    )),
    ('What is the probability?', '\\frac14', (
        '\\frac14', '0.25', '25\\%',
    ), (
        '1:4', '1:3',
    )),
    ('Convert 3 km to meters.', '3000', (
        '3000', '3000 \\text{ m}', '3,000 \\text{ meters}',
    ), (
        '3000 \\text{ km}', '3\\text{ km}', '3000\\text{ cm}',
    )),
    ('What is the temperature in degrees Celsius?', '25', (
    ), (
        '25^\\circ F',
    )),
    ('How fast is it in m/s?', '5', (
        '5', '5\\text{ m/s}',
    ), (
        '5 \\text{ km/h}',
    )),
    ('', 'P(2,3)', (
        '(2,3)', 'P(2,3)', 'P=(2,3)',
    ), (
        'Q(2,3)', 'P(3,2)',
    )),
    ('', 'A(1,2), B(3,4)', (
        'A(1,2), B(3,4)', '(1,2),(3,4)', 'A=(1,2), B=(3,4)',
    ), (
        'B(1,2), A(3,4)',
    )),
    ('', '120', (
        '5!=120',
    ), (
        '5!',
    )),
    ('', '2, 3', (
    ), (
        '2', '3', '2,3,4', '2.3', '23',
    )),
    ('', 'x^2+1', (
        'x^2+1', '1+x^2', 'f(x)=x^2+1', 'y=x^2+1',
    ), (
        'x=x^2+1', 'x^2', 'x^2-1', 'x^2+1=0', 'x^2+1>0', 'X^2+1', 't^2+1',
    )),
    ('', '\\pi r', (
        'r\\pi', 'πr', '\\pi r',
    ), (
        '\\pi', 'r', '\\pi+r',
    )),
    ('', 'k\\pi', (
        '\\pi k', 'πk', 'kπ',
    ), (
        'k', '\\pi',
    )),
    ('', '\\binom{n}{3}', (
        '\\frac{n!}{3!(n-3)!}', '\\frac{n(n-1)(n-2)}{6}', 'C(n,3)', '{}_nC_3',
    ), (
        '\\binom{n}{2}', '\\binom{3}{n}', '\\frac{n}{3}', 'n^3', '\\frac{n(n-1)(n-2)}{3}',
    )),
)  # fmt: skip
"""The contents of the box."""

WHOLE: tuple[Row, ...] = (
    ('', '$28\\%$', (
        '28 pct', '$28$ %', '$28$ percent', '$\\boxed{28}$ pct', '28 percent', '28 %', '$\\boxed{28 pct}$',
        '$\\boxed{28 percent}$', '$\\boxed{28\\text{ percent}}$',
    ), (
        '$\\boxed{28}$ percentage points of nothing, it is 30\\%', '$\\boxed{2800\\%}$',
    )),
    ('', '14{,}916', (
        'Final Answer: The final answer is $14 {, }916$. I hope it is correct.',
        'Final Answer: The smallest possible value of $N$ is $\\boxed{14{,}916}$. I hope it is correct.',
    ), (
    )),
    ('', '5', (
        '$5 \\text{ cm}.$',
    ), (
    )),
    ('', '42', (
        '__42__', '$\\therefore 42$', '$\\implies 42$', '$\\Rightarrow x=42$', 'boxed{42}',
    ), (
        '\\let\\boxed\\relax \\boxed{42}', '\\renewcommand{\\boxed}[1]{41}\\boxed{42}',
        '\\def\\boxed#1{41}\\boxed{42}', '\\begin{verbatim}\\boxed{42}\\end{verbatim}',
        'The format is \\boxed{42}, for example.', 'For example, \\boxed{42}.',
        'I should put the answer in \\boxed{42}. But I do not know it.', 'e.g. \\boxed{42}',
        '"\\boxed{42}" is a wrong answer', "If it's not 41 then it's 42.", 'Answer 1: 41. Answer 2: 42.',
        '\\boxed{41}, if not then \\boxed{42}', '\\boxed{41} with probability 1/2, else \\boxed{42}',
        'Method 1 gives \\boxed{41}. Method 2 gives \\boxed{42}.', '\\boxed{42} > \\boxed{41}',
        '\\boxed{42} is my guess, but I am not sure; the true answer is 41.',
        'Everyone says \\boxed{42}, but they are wrong.', "\\boxed{42} can't be right.", 'Ignore this: \\boxed{42}',
        'Ignore the following: \\boxed{42}', '\\boxed{42}. Wait, I misread the question. It is 43.',
        '\\boxed{42} unless it is 41.', "\\boxed{42}. I don't believe it.",
        '\\boxed{42} is what I would get if I were wrong.', '\\boxed{42} is a typo for 41.',
        '\\boxed{42} (typo, should be 41)', 'Answer: \\boxed{42} + 1', '\\boxed{42}-ish', 'x/2=42', 'x+1=42',
        '\\boxed{42} / 2', '\\boxed{42} × 2', '\\boxed{42} + 5', '$\\boxed{42} + 5$',
        '\\boxed{42}. I misread the question.', '\\boxed{42}. I have no idea.', '\\boxed{42}. I doubt it.',
        '\\boxed{42} (a placeholder)', '\\boxed{42}, which is a typo.',
        'Approach A gives \\boxed{41}. Approach B gives \\boxed{42}.',
        "\\boxed{42}\n\nWait, I forgot to subtract 1, so it's 41.", '\\boxed{42}\n\nIn fact, it should be 43.',
        '{"wrong_answer": 42}', '{"question": 42}',
    )),
    ('', '1', (
    ), (
        'The answer is $1/3.$', '\\boxed{1} and \\boxed{2}',
    )),
    ('', '(1,2)', (
    ), (
        '[1,2]',
    )),
    ('', '25', (
        '因此共有25种',
    ), (
    )),
    ('Tom has 12 apples and gives away 5. How many apples does he have left?', '7', (
    ), (
        '6 apples\n7 apples',
    )),
    ('How many apples?', '7', (
    ), (
        '6 apples\n7 apples',
    )),
    ('', '2, 3', (
        '{"answer": [2, 3]}', '\\boxed{2} and \\boxed{3}', '\\boxed{x=2} or \\boxed{x=3}',
        '$x_1=\\boxed{2}$, $x_2=\\boxed{3}$', 'Thus $x=\\boxed{2}$ or $x=\\boxed{3}$.', '\\boxed{2}, \\boxed{3}',
        '\\boxed{2} \\quad \\boxed{3}',
    ), (
        '\\boxed{2} and \\boxed{4}',
    )),
    ('', 'x^2+1', (
        '$f(x)=x^2+1$', 'The answer is $x^2+1$.',
    ), (
    )),
)  # fmt: skip
"""Whole completions."""


@pytest.mark.parametrize("row", BOXED, ids=lambda row: row[1])
def test_boxed_answers(row: Row) -> None:
    check(*row, "\\boxed{%s}")


@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row[1])
def test_completions(row: Row) -> None:
    check(*row, "%s")


def check(question: str, reference: str, right: tuple[str, ...], wrong: tuple[str, ...], frame: str) -> None:
    """Hold the verdicts on all answers of a row against what they should be."""
    problem = Problem("p", question, reference)
    paid = [a for a in (*right, *wrong) if math_answer(problem, frame % a).value == 1]
    assert paid == [*right]
