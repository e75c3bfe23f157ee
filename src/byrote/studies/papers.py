"""Where the claims come from."""

ZHANG = "Zhang et al. 2017, Understanding deep learning requires rethinking generalization, https://arxiv.org/abs/1611.03530"
ARPIT = "Arpit et al. 2017, A closer look at memorization in deep networks, https://arxiv.org/abs/1706.05394"
FELDMAN = "Feldman & Zhang 2020, What neural networks memorize and why, https://arxiv.org/abs/2008.03703"
RUCKER = "Rücker et al. 2007, y-Randomization and its variants in QSPR/QSAR, https://doi.org/10.1021/ci700157b"
KAPOOR = "Kapoor & Narayanan 2023, Leakage and the reproducibility crisis in ML-based science, https://doi.org/10.1016/j.patter.2023.100804"
COVER_HART = "Cover & Hart 1967, Nearest neighbor pattern classification, https://doi.org/10.1109/TIT.1967.1053964"
BREIMAN = "Breiman 2001, Random forests, https://doi.org/10.1023/A:1010933404324"
BELKIN = "Belkin et al. 2018, To understand deep learning we need to understand kernel learning, https://arxiv.org/abs/1802.01396"
NORTHCUTT = "Northcutt et al. 2021, Confident learning: estimating uncertainty in dataset labels, https://arxiv.org/abs/1911.00068"
DINH = "Dinh et al. 2017, Sharp minima can generalize for deep nets, https://arxiv.org/abs/1703.04933"
FORET = "Foret et al. 2021, Sharpness-aware minimization for efficiently improving generalization, https://arxiv.org/abs/2010.01412"
FRANKLE = (
    "Frankle et al. 2020, Linear mode connectivity and the lottery ticket hypothesis, https://arxiv.org/abs/1912.05671"
)
KESKAR = "Keskar et al. 2017, On large-batch training for deep learning, https://arxiv.org/abs/1609.04836"
CARLINI = "Carlini et al. 2022, Membership inference attacks from first principles, https://arxiv.org/abs/2112.03570"
STEP_LENGTH = "Jastrzębski et al. 2019, On the relation between the sharpest directions of DNN loss and the SGD step length, https://arxiv.org/abs/1807.05031"
BREAK_EVEN = "Jastrzębski et al. 2020, The break-even point on optimization trajectories of deep neural networks, https://arxiv.org/abs/2002.09572"
EXPLOSION = "Jastrzębski et al. 2021, Catastrophic Fisher explosion: early phase Fisher matrix impacts generalization, https://arxiv.org/abs/2012.14193"
COHEN = "Cohen et al. 2021, Gradient descent on neural networks typically occurs at the edge of stability, https://arxiv.org/abs/2103.00065"
GOLATKAR = "Golatkar et al. 2019, Time matters in regularizing deep networks, https://arxiv.org/abs/1905.13277"
FRANKLE = (
    "Frankle et al. 2020, Linear mode connectivity and the lottery ticket hypothesis, https://arxiv.org/abs/1912.05671"
)
